// Package v1alpha1 has the custom resources by which a cluster is told of pools. Their spec
// is kept as it was written: package schema is the only one that understands it.
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Groups and kinds. KadaluStorage is what Kadalu's operator reads.
var (
	GroupVersion       = schema.GroupVersion{Group: "atoll.storage", Version: "v1alpha1"}
	KadaluGroupVersion = schema.GroupVersion{Group: "kadalu-operator.storage", Version: "v1alpha1"}
)

// Finalizer is on pools that say deletionPolicy: Delete: such a pool goes when it has no
// volumes any more.
const Finalizer = "atoll.storage/pool"

// SkipRollAnnotation, on a pool, has bricks with a pending change restarted one after
// another though something is still to be healed, until the annotation goes. Its value must
// be the pool's revision (status.lastAppliedRevision).
const SkipRollAnnotation = "atoll.storage/roll-without-healing"

// Where the status of a pool is that has no resource: in a ConfigMap with this label, under
// this key of its data, in JSON.
const (
	LabelStatus = "atoll.storage/status"
	StatusKey   = "status.json"
)

// StatusName is the name of that ConfigMap.
func StatusName(pool string) string { return "atoll-" + pool + "-status" }

// Conditions beside Ready, Reconciling and Stalled.
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

// Pool is either kind.
type Pool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   runtime.RawExtension `json:"spec,omitempty"`
	Status PoolStatus           `json:"status,omitempty"`
}

// PoolStatus is how a pool is.
type PoolStatus struct {
	// LastHandledReconcileAt is the value of the annotation reconcile.fluxcd.io/requestedAt
	// that was followed last.
	LastHandledReconcileAt string             `json:"lastHandledReconcileAt,omitempty"`
	ObservedGeneration     int64              `json:"observedGeneration,omitempty"`
	Conditions             []metav1.Condition `json:"conditions,omitempty"`

	// LastAppliedRevision names what the document was rendered to when it was last applied.
	LastAppliedRevision string `json:"lastAppliedRevision,omitempty"`
	// Inventory is the ConfigMap that lists the objects of the pool.
	Inventory string `json:"inventory,omitempty"`

	Bricks []BrickStatus `json:"bricks,omitempty"`
	// BricksOnline is how many bricks serve, of how many: "2/3".
	BricksOnline string `json:"bricksOnline,omitempty"`
	// Backlog counts entries that are to be healed, -1 when no agent could be asked.
	Backlog int64 `json:"backlog"`
	// RollWaitsSince is since when no brick could be restarted of those that are to be.
	RollWaitsSince *metav1.Time `json:"rollWaitsSince,omitempty"`
	// Volumes counts the persistent volumes of the pool.
	Volumes int64 `json:"volumes"`
	// SizeBytes and FreeBytes are those of the pool, by what its bricks have.
	SizeBytes int64 `json:"sizeBytes,omitempty"`
	FreeBytes int64 `json:"freeBytes,omitempty"`
	// PromisedBytes is the sum of the sizes of all volumes, as it was last known; nil before.
	PromisedBytes *int64 `json:"promisedBytes,omitempty"`
}

// BrickStatus is how one brick is. Its index is its position in the document, for ever.
type BrickStatus struct {
	Index int    `json:"index"`
	Node  string `json:"node,omitempty"`
	Place string `json:"place"`
	// Address is that of its pod.
	Address string `json:"address,omitempty"`
	// Phase is Pending, Starting, Joining, Filling, Online, Offline or Leaving.
	Phase Phase `json:"phase"`
	// Message says why it is not online, as far as that can be told.
	Message    string `json:"message,omitempty"`
	Online     bool   `json:"online"`
	Backlog    int64  `json:"backlog,omitempty"`
	SplitBrain int64  `json:"splitBrain,omitempty"`
	// Outdated tells that the pod runs what was rendered before, and is to be restarted.
	Outdated bool `json:"outdated,omitempty"`
}

// Phase is what a brick does.
type Phase string

// Phases.
const (
	PhasePending  Phase = "Pending"  // no pod, or on no node yet
	PhaseStarting Phase = "Starting" // its init containers work
	PhaseJoining  Phase = "Joining"  // it is new and waits for the others of its set
	PhaseFilling  Phase = "Filling"  // it serves, and lacks what others have
	PhaseOnline   Phase = "Online"
	PhaseOffline  Phase = "Offline" // its pod runs, and the brick does not answer
	PhaseLeaving  Phase = "Leaving" // it is decommissioned
)

// GetConditions is for the conditions of fluxcd/pkg/runtime.
func (p *Pool) GetConditions() []metav1.Condition { return p.Status.Conditions }

// SetConditions is for the conditions of fluxcd/pkg/runtime.
func (p *Pool) SetConditions(all []metav1.Condition) { p.Status.Conditions = all }

// StoragePool is Atoll's own kind.
type StoragePool struct {
	Pool `json:",inline"`
}

// KadaluStorage is Kadalu's kind, with the same status.
type KadaluStorage struct {
	Pool `json:",inline"`
}

// List is a list of either kind.
type List struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
}

// StoragePoolList is a list of pools.
type StoragePoolList struct {
	List  `json:",inline"`
	Items []StoragePool `json:"items"`
}

// KadaluStorageList is a list of Kadalu's.
type KadaluStorageList struct {
	List  `json:",inline"`
	Items []KadaluStorage `json:"items"`
}

// Object is a pool of either kind.
type Object interface {
	runtime.Object
	metav1.Object
	GetConditions() []metav1.Condition
	SetConditions([]metav1.Condition)
	// Base is what both kinds have.
	Base() *Pool
}

// Base is what both kinds have.
func (p *Pool) Base() *Pool { return p }

// AddToScheme registers both kinds.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &StoragePool{}, &StoragePoolList{})
	s.AddKnownTypes(KadaluGroupVersion, &KadaluStorage{}, &KadaluStorageList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	metav1.AddToGroupVersion(s, KadaluGroupVersion)
	return nil
}
