// Package schema has the types of a StoragePool document and its published definition,
// pool.cue. It links neither CUE nor kustomize, so that the CSI driver and the brick
// programs stay small: package definition compiles pool.cue, package loader reads and
// checks documents, package convert turns those of other projects into pools.
package schema

import (
	"cmp"
	"slices"
)

// API group, version and kinds of the documents that this package reads.
const (
	APIVersion       = "atoll.storage/v1alpha1"
	Kind             = "StoragePool"
	KadaluAPIVersion = "kadalu-operator.storage/v1alpha1"
	KadaluKind       = "KadaluStorage"
	// DefaultNamespace is the namespace of a pool whose document names none.
	DefaultNamespace = "atoll-system"
)

// Type is how a pool stores its data. The names are those of the pool document.
type Type string

// The pool types.
const (
	Replica1 Type = "Replica1" // one copy
	Replica2 Type = "Replica2" // two copies, optionally with a thin arbiter
	Replica3 Type = "Replica3" // three copies
	Arbiter  Type = "Arbiter"  // two copies and a third brick with metadata only
	Disperse Type = "Disperse" // erasure coding, see Spec.Disperse
	External Type = "External" // a volume of a GlusterFS cluster outside Kubernetes
)

// Layout is how a pool stores a volume.
type Layout string

// The layouts of a pool's volumes.
const (
	Subdirectory Layout = "Subdirectory" // many volumes, each a directory
	Block        Layout = "Block"        // many volumes, each a file behind a loop device
	Single       Layout = "Single"       // the whole pool is one volume
)

// Reclaim is what happens to a volume's data when its claim is deleted.
type Reclaim string

// The reclaim policies.
const (
	ReclaimDelete  Reclaim = "Delete"
	ReclaimArchive Reclaim = "Archive" // renamed and kept until an administrator purges it
	ReclaimRetain  Reclaim = "Retain"
)

// Recovery is what happens to a pod whose volume was lost on its node, when the pod has to start again
// to see it.
type Recovery string

// Ways of recovery. The first is the default. A pod without a controller, which nobody would create
// again, is only ever told.
const (
	RecoveryEvict Recovery = "Evict" // it is evicted, as far as its disruption budgets allow
	RecoveryTell  Recovery = "Tell"  // it gets an event
)

// Pool is one StoragePool document, as pool.cue defines it. Defaults are not filled in.
type Pool struct {
	APIVersion string   `json:"apiVersion" yaml:"apiVersion"`
	Kind       string   `json:"kind" yaml:"kind"`
	Metadata   Metadata `json:"metadata" yaml:"metadata"`
	Spec       Spec     `json:"spec" yaml:"spec"`
}

// NamespaceOr returns the pool's namespace. A pool that names none lives in fallback,
// or in DefaultNamespace if that is empty too.
func (p *Pool) NamespaceOr(fallback string) string {
	return cmp.Or(p.Metadata.Namespace, fallback, DefaultNamespace)
}

// Metadata is the part of a Kubernetes object's metadata that a pool uses.
type Metadata struct {
	Name        string            `json:"name" yaml:"name"`
	Namespace   string            `json:"namespace,omitempty" yaml:"namespace,omitempty"`
	Labels      map[string]string `json:"labels,omitempty" yaml:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty" yaml:"annotations,omitempty"`
}

// Spec is the desired state of a pool.
type Spec struct {
	Type              Type              `json:"type" yaml:"type"`
	Bricks            []Brick           `json:"bricks,omitempty" yaml:"bricks,omitempty"`
	AllowSameNode     bool              `json:"allowSameNode,omitempty" yaml:"allowSameNode,omitempty"`
	Disperse          *DisperseSpec     `json:"disperse,omitempty" yaml:"disperse,omitempty"`
	Tiebreaker        *Tiebreaker       `json:"tiebreaker,omitempty" yaml:"tiebreaker,omitempty"`
	External          *ExternalSpec     `json:"external,omitempty" yaml:"external,omitempty"`
	Volumes           []Layout          `json:"volumes,omitempty" yaml:"volumes,omitempty"`
	Reclaim           Reclaim           `json:"reclaim,omitempty" yaml:"reclaim,omitempty"`
	Recovery          Recovery          `json:"recovery,omitempty" yaml:"recovery,omitempty"`
	StorageClasses    []StorageClass    `json:"storageClasses,omitempty" yaml:"storageClasses,omitempty"`
	Options           map[string]string `json:"options,omitempty" yaml:"options,omitempty"`
	VolumeID          string            `json:"volumeID,omitempty" yaml:"volumeID,omitempty"`
	Tolerations       []Toleration      `json:"tolerations,omitempty" yaml:"tolerations,omitempty"`
	Resources         *Resources        `json:"resources,omitempty" yaml:"resources,omitempty"`
	PriorityClassName string            `json:"priorityClassName,omitempty" yaml:"priorityClassName,omitempty"`
	Suspend           bool              `json:"suspend,omitempty" yaml:"suspend,omitempty"`
	Interval          string            `json:"interval,omitempty" yaml:"interval,omitempty"`
	DeletionPolicy    string            `json:"deletionPolicy,omitempty" yaml:"deletionPolicy,omitempty"`
}

// Brick is one place that stores data: a device or a path of a node, or a claim.
// Its position in Spec.Bricks is its identity and never changes.
type Brick struct {
	Node           string `json:"node,omitempty" yaml:"node,omitempty"`
	Device         string `json:"device,omitempty" yaml:"device,omitempty"`
	Path           string `json:"path,omitempty" yaml:"path,omitempty"`
	PVC            string `json:"pvc,omitempty" yaml:"pvc,omitempty"`
	Generation     int    `json:"generation,omitempty" yaml:"generation,omitempty"`
	Decommissioned bool   `json:"decommissioned,omitempty" yaml:"decommissioned,omitempty"`
}

// DisperseSpec describes erasure coding: a set stores Data bricks' worth of data and
// survives the loss of any Redundancy bricks.
type DisperseSpec struct {
	Data       int `json:"data" yaml:"data"`
	Redundancy int `json:"redundancy" yaml:"redundancy"`
}

// Tiebreaker is the thin arbiter of a Replica2 pool, on a node of the cluster (Node) or
// outside it (Host, Port).
type Tiebreaker struct {
	Node string `json:"node,omitempty" yaml:"node,omitempty"`
	Host string `json:"host,omitempty" yaml:"host,omitempty"`
	Path string `json:"path" yaml:"path"`
	Port int    `json:"port,omitempty" yaml:"port,omitempty"`
}

// ExternalSpec describes how to reach a volume outside the cluster.
type ExternalSpec struct {
	Hosts       []string    `json:"hosts" yaml:"hosts"`
	Volume      string      `json:"volume" yaml:"volume"`
	Port        int         `json:"port,omitempty" yaml:"port,omitempty"`
	Options     []string    `json:"options,omitempty" yaml:"options,omitempty"`
	HostAliases []HostAlias `json:"hostAliases,omitempty" yaml:"hostAliases,omitempty"`
}

// HostAlias gives names to an address, as in a Pod.
type HostAlias struct {
	IP        string   `json:"ip" yaml:"ip"`
	Hostnames []string `json:"hostnames" yaml:"hostnames"`
}

// StorageClass is a class of a pool in addition to those of BuiltinClasses.
type StorageClass struct {
	Name         string            `json:"name" yaml:"name"`
	Layout       Layout            `json:"layout,omitempty" yaml:"layout,omitempty"`
	BindingMode  string            `json:"bindingMode,omitempty" yaml:"bindingMode,omitempty"`
	Reclaim      Reclaim           `json:"reclaim,omitempty" yaml:"reclaim,omitempty"`
	Recovery     Recovery          `json:"recovery,omitempty" yaml:"recovery,omitempty"`
	Default      bool              `json:"default,omitempty" yaml:"default,omitempty"`
	MountOptions []string          `json:"mountOptions,omitempty" yaml:"mountOptions,omitempty"`
	Parameters   map[string]string `json:"parameters,omitempty" yaml:"parameters,omitempty"`
}

// Toleration is a toleration of a Pod.
type Toleration struct {
	Key               string `json:"key,omitempty" yaml:"key,omitempty"`
	Operator          string `json:"operator,omitempty" yaml:"operator,omitempty"`
	Value             string `json:"value,omitempty" yaml:"value,omitempty"`
	Effect            string `json:"effect,omitempty" yaml:"effect,omitempty"`
	TolerationSeconds *int64 `json:"tolerationSeconds,omitempty" yaml:"tolerationSeconds,omitempty"`
}

// Resources are the requests and limits of the glusterfsd container, as
// Kubernetes quantities by resource name.
type Resources struct {
	Requests map[string]string `json:"requests,omitempty" yaml:"requests,omitempty"`
	Limits   map[string]string `json:"limits,omitempty" yaml:"limits,omitempty"`
}

// SetSize returns how many consecutive bricks form one set (subvolume) of the pool, 0 for
// External and for a Disperse pool without spec.disperse.
func (s *Spec) SetSize() int {
	switch s.Type {
	case Replica1:
		return 1
	case Replica2:
		return 2
	case Replica3, Arbiter:
		return 3
	case Disperse:
		if s.Disperse != nil {
			return s.Disperse.Data + s.Disperse.Redundancy
		}
	}
	return 0
}

// Sets returns the bricks grouped by set, in document order. It omits an incomplete last
// set, which validation refuses.
func (s *Spec) Sets() [][]Brick {
	size := s.SetSize()
	if size == 0 {
		return nil
	}
	var sets [][]Brick
	for i := 0; i+size <= len(s.Bricks); i += size {
		sets = append(sets, s.Bricks[i:i+size])
	}
	return sets
}

// DataBricks returns how many bricks' worth of data one set stores: all copies of
// replication count once.
func (s *Spec) DataBricks() int {
	if s.Type == Disperse && s.Disperse != nil {
		return s.Disperse.Data
	}
	return 1
}

// Layouts returns the layouts that the pool serves. A pool that lists none serves
// subdirectories.
func (s *Spec) Layouts() []Layout {
	if len(s.Volumes) == 0 {
		return []Layout{Subdirectory}
	}
	return s.Volumes
}

// Serves reports whether the pool serves volumes of this layout.
func (s *Spec) Serves(l Layout) bool { return slices.Contains(s.Layouts(), l) }
