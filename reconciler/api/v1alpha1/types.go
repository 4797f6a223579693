// Package v1alpha1 has the custom resources of pools. It keeps their spec as raw JSON: only
// package schema interprets it.
//
// +kubebuilder:object:generate=true
package v1alpha1

//go:generate go tool controller-gen object paths=.

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The API groups. KadaluGroupVersion is the one of Kadalu's operator.
var (
	GroupVersion       = schema.GroupVersion{Group: "atoll.storage", Version: "v1alpha1"}
	KadaluGroupVersion = schema.GroupVersion{Group: "kadalu-operator.storage", Version: "v1alpha1"}
)

// Finalizer is on pools with deletionPolicy: Delete. It keeps the resource until the pool has no
// volumes.
const Finalizer = "atoll.storage/pool"

// RolloutWithoutHealingAnnotation on a pool allows restarting outdated bricks one by one although
// heals are pending. Its value must be the pool's revision (status.lastAppliedRevision).
const RolloutWithoutHealingAnnotation = "atoll.storage/roll-without-healing"

// The status of a pool without a resource is in a ConfigMap with this label, as JSON under this key.
const (
	LabelStatus = "atoll.storage/status"
	StatusKey   = "status.json"
)

// StatusName is the name of that ConfigMap.
func StatusName(pool string) string { return "atoll-" + pool + "-status" }

// Condition types besides Ready, Reconciling and Stalled.
const (
	BricksOnlineCondition  = "BricksOnline"
	HealedCondition        = "Healed"
	QuotaEnforcedCondition = "QuotaEnforced"
)

// Reasons of conditions.
const (
	ReasonApplied        = "Applied"
	ReasonInvalid        = "InvalidSpec"
	ReasonRefused        = "ChangeRefused"
	ReasonApplyFailed    = "ApplyFailed"
	ReasonBricksAway     = "BricksAway"
	ReasonAllOnline      = "AllOnline"
	ReasonHealing        = "Healing"
	ReasonSplitBrain     = "SplitBrain"
	ReasonNothingToHeal  = "NothingToHeal"
	ReasonUnknown        = "NoAgentAnswers"
	ReasonEnforced       = "Enforced"
	ReasonAdvisory       = "Advisory"
	ReasonRolling        = "RollingBricks"
	ReasonRollStuck      = "RollingWaits"
	ReasonVolumesInUse   = "VolumesInUse"
	ReasonDeleting       = "Deleting"
	ReasonNotReachable   = "ExternalUnreachable"
	ReasonBricksStarting = "BricksStarting"
)

// Pool has the fields of both kinds.
type Pool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   runtime.RawExtension `json:"spec,omitempty"`
	Status PoolStatus           `json:"status,omitempty"`
}

// PoolStatus is the observed state of a pool.
type PoolStatus struct {
	// LastHandledReconcileAt is the last handled value of the annotation
	// reconcile.fluxcd.io/requestedAt.
	LastHandledReconcileAt string             `json:"lastHandledReconcileAt,omitempty"`
	ObservedGeneration     int64              `json:"observedGeneration,omitempty"`
	Conditions             []metav1.Condition `json:"conditions,omitempty"`

	// LastAppliedRevision is the hash of the rendered objects that were last applied.
	LastAppliedRevision string `json:"lastAppliedRevision,omitempty"`
	// Inventory is the name of the ConfigMap that lists the objects of the pool.
	Inventory string `json:"inventory,omitempty"`

	Bricks []BrickStatus `json:"bricks,omitempty"`
	// BricksOnline is the number of online bricks of all bricks: "2/3".
	BricksOnline string `json:"bricksOnline,omitempty"`
	// Backlog is the number of pending heals, -1 when no agent responds.
	Backlog int64 `json:"backlog"`
	// RollWaitsSince is when outdated bricks began to wait for a restart.
	RollWaitsSince *metav1.Time `json:"rollWaitsSince,omitempty"`
	// Volumes counts the PersistentVolumes of the pool.
	Volumes int64 `json:"volumes"`
	// SizeBytes and FreeBytes are the usable size and free space of the pool, by those of its bricks.
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	FreeBytes int64 `json:"freeBytes,omitempty"`
	// PromisedBytes is the last known sum of the sizes of all volumes, nil when it was never known.
	PromisedBytes *int64 `json:"promisedBytes,omitempty"`
}

// BrickStatus is the observed state of one brick. Its index is its position in the document and
// never changes.
type BrickStatus struct {
	Index int    `json:"index"`
	Node  string `json:"node,omitempty"`
	Place string `json:"place"`
	// Address is the IP address of its pod.
	Address string `json:"address,omitempty"`
	// Phase is Pending, Starting, Joining, Filling, Online, Offline or Leaving.
	Phase Phase `json:"phase"`
	// Message is why the brick is not online, as far as known.
	Message    string `json:"message,omitempty"`
	Online     bool   `json:"online"`
	Backlog    int64  `json:"backlog,omitempty"`
	SplitBrain int64  `json:"splitBrain,omitempty"`
	// Outdated reports that the pod runs an older revision and must be restarted.
	Outdated bool `json:"outdated,omitempty"`
}

// Phase is the state of a brick.
type Phase string

// Phases.
const (
	PhasePending  Phase = "Pending"  // it has no pod, or the pod has no node or address
	PhaseStarting Phase = "Starting" // its init containers run
	PhaseJoining  Phase = "Joining"  // it is new and waits for the other bricks of its set
	PhaseFilling  Phase = "Filling"  // it is new, online, and being healed
	PhaseOnline   Phase = "Online"
	PhaseOffline  Phase = "Offline" // its pod runs, but the brick does not respond
	PhaseLeaving  Phase = "Leaving" // it is decommissioned
)

// GetConditions implements conditions.Object.
func (p *Pool) GetConditions() []metav1.Condition { return p.Status.Conditions }

// SetConditions implements conditions.Object.
func (p *Pool) SetConditions(all []metav1.Condition) { p.Status.Conditions = all }

// StoragePool is Atoll's kind of a pool.
//
// +kubebuilder:object:root=true
type StoragePool struct {
	Pool `json:",inline"`
}

// KadaluStorage is Kadalu's kind of a pool, with the status of Atoll's.
//
// +kubebuilder:object:root=true
type KadaluStorage struct {
	Pool `json:",inline"`
}

// List has the fields of both list kinds.
type List struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
}

// StoragePoolList is a list of StoragePools.
//
// +kubebuilder:object:root=true
type StoragePoolList struct {
	List  `json:",inline"`
	Items []StoragePool `json:"items"`
}

// KadaluStorageList is a list of KadaluStorages.
//
// +kubebuilder:object:root=true
type KadaluStorageList struct {
	List  `json:",inline"`
	Items []KadaluStorage `json:"items"`
}

// Object is a pool of either kind.
//
// +kubebuilder:object:generate=false
type Object interface {
	runtime.Object
	metav1.Object
	GetConditions() []metav1.Condition
	SetConditions([]metav1.Condition)
	// Base returns the fields of both kinds.
	Base() *Pool
}

// Base returns the fields of both kinds.
func (p *Pool) Base() *Pool { return p }

var _ = []Object{&StoragePool{}, &KadaluStorage{}}

// AddToScheme registers both kinds.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &StoragePool{}, &StoragePoolList{})
	s.AddKnownTypes(KadaluGroupVersion, &KadaluStorage{}, &KadaluStorageList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	metav1.AddToGroupVersion(s, KadaluGroupVersion)
	return nil
}
