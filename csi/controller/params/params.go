// Package params reads the parameters of the classes that users write: of a StorageClass, a
// VolumeAttributesClass and a VolumeSnapshotClass. To add a parameter of a StorageClass, add a
// field to Params and a case to Read.
package params

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
)

// Parameters beside those of package schema.
const (
	overcommit = "overcommit"
	// FormatOptions is the parameter with options of a block volume's mkfs.
	FormatOptions = "mkfsOptions"
	pauseLimit    = "pauseLimit"
	// sidecarPrefix is the prefix of parameters that the sidecars add.
	sidecarPrefix = "csi.storage.k8s.io/"
)

// maxOvercommit is the largest value of the parameter overcommit.
const maxOvercommit = 100

// Params are the parameters of a StorageClass.
type Params struct {
	Pools    []string          // by name, or
	Selector map[string]string // by label, and by type under the key "type"
	Layout   schema.Layout     // "" is the pool's first
	Reclaim  schema.Reclaim    // "" is the pool's
	// Overcommit is how much of a pool's space may be provisioned, from 1.
	Overcommit    float64
	FormatOptions string // arguments for the mkfs of a block volume
	RawShared     bool   // several nodes may attach a raw block volume at once
	// Recovery is recorded on the PersistentVolume; "" is the pool's.
	Recovery schema.Recovery
}

// Any are the parameters that every pool matches.
func Any() Params { return Params{Overcommit: 1} }

// Read reads the parameters of a StorageClass.
func Read(parameters map[string]string) (Params, error) {
	p := Any()
	for name, value := range parameters {
		if err := p.set(name, value); err != nil {
			return Params{}, err
		}
	}
	if len(p.Pools) == 0 && len(p.Selector) == 0 {
		return Params{}, rpc.Invalid("the StorageClass names no pool; set the parameter pool or poolSelector")
	}
	return p, nil
}

func (p *Params) set(name, value string) (err error) {
	switch {
	case name == schema.ParameterPool:
		p.Pools = strings.Split(value, ",")
		for i := range p.Pools {
			p.Pools[i] = strings.TrimSpace(p.Pools[i])
		}
	case name == schema.ParameterPoolSelector:
		p.Selector, err = readSelector(value)
	case name == schema.ParameterLayout:
		p.Layout = schema.Layout(value)
	case name == schema.ParameterReclaim:
		p.Reclaim, err = readReclaim(value)
	case name == schema.ParameterRecovery:
		p.Recovery, err = readRecovery(value)
	case name == overcommit:
		if p.Overcommit, err = strconv.ParseFloat(value, 64); err != nil ||
			!(p.Overcommit >= 1 && p.Overcommit <= maxOvercommit) {
			return rpc.Invalid("parameter overcommit is %q; set a number from 1 (no more than the pool has) to %d",
				value, maxOvercommit)
		}
	case name == FormatOptions:
		p.FormatOptions = value
	case name == rpc.ParameterRawShared:
		if p.RawShared = value == "true"; !p.RawShared && value != "false" {
			return rpc.Invalid("parameter %s is %q; set \"true\" or \"false\"", name, value)
		}
	case strings.HasPrefix(name, sidecarPrefix):
	default:
		return rpc.Invalid("unknown parameter %q; a StorageClass of Atoll has pool or poolSelector, layout, reclaim, "+
			"recovery, overcommit, mkfsOptions, rawReadWriteMany", name)
	}
	return err
}

func readSelector(text string) (map[string]string, error) {
	selector := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found || name == "" {
			return nil, rpc.Invalid("parameter poolSelector is %q; write it like type=Replica3,tier=fast", text)
		}
		selector[name] = value
	}
	return selector, nil
}

func readReclaim(text string) (schema.Reclaim, error) {
	r := schema.Reclaim(text)
	if !slices.Contains([]schema.Reclaim{schema.ReclaimDelete, schema.ReclaimArchive, schema.ReclaimRetain}, r) {
		return "", rpc.Invalid("parameter reclaim is %q; set Delete, Archive or Retain", text)
	}
	return r, nil
}

func readRecovery(text string) (schema.Recovery, error) {
	r := schema.Recovery(text)
	if r != schema.RecoveryEvict && r != schema.RecoveryTell {
		return "", rpc.Invalid("parameter %s is %q; set %s or %s", schema.ParameterRecovery, text, schema.RecoveryEvict,
			schema.RecoveryTell)
	}
	return r, nil
}

// ReadMutable reads the parameters of a VolumeAttributesClass; "" when it has none.
func ReadMutable(parameters map[string]string) (reclaim schema.Reclaim, err error) {
	for name, value := range parameters {
		if name != schema.ParameterReclaim {
			return "", rpc.Invalid("parameter %q cannot be changed; a VolumeAttributesClass of Atoll has reclaim", name)
		}
		if reclaim, err = readReclaim(value); err != nil {
			return "", err
		}
	}
	return reclaim, nil
}

// ReadSnapshot reads the parameters of a VolumeSnapshotClass: how long writes to a volume in
// use may be paused; 0 is the default.
func ReadSnapshot(parameters map[string]string) (pause time.Duration, err error) {
	for name, value := range parameters {
		switch {
		case name == pauseLimit:
			if pause, err = time.ParseDuration(value); err != nil || pause <= 0 {
				return 0, rpc.Invalid("parameter %s is %q; write it like 30s or 5m", pauseLimit, value)
			}
		case strings.HasPrefix(name, sidecarPrefix):
		default:
			return 0, rpc.Invalid("unknown parameter %q; a VolumeSnapshotClass of Atoll has %s", name, pauseLimit)
		}
	}
	return pause, nil
}

// Match reports whether volumes may be placed in a pool.
func (p Params) Match(c catalog.Pool) bool {
	if len(p.Pools) > 0 && !slices.Contains(p.Pools, c.Pool) {
		return false
	}
	for name, value := range p.Selector {
		if name == "type" && string(c.Type) != value || name != "type" && c.Labels[name] != value {
			return false
		}
	}
	return slices.Contains(c.Layouts, p.LayoutIn(c))
}

// LayoutIn returns the layout that volumes have in a pool.
func (p Params) LayoutIn(c catalog.Pool) schema.Layout { return cmp.Or(p.Layout, c.Layouts[0]) }

// Names returns the names of the pools in the parameters, sorted; nil when a selector chooses.
func (p Params) Names() []string {
	names := slices.Clone(p.Pools)
	slices.Sort(names)
	return slices.Compact(names)
}

// String describes which pools match.
func (p Params) String() string {
	layout := cmp.Or(string(p.Layout), "any layout")
	if len(p.Pools) > 0 {
		return fmt.Sprintf("pools %v that serve %s", p.Pools, layout)
	}
	return fmt.Sprintf("pools with labels %v that serve %s", p.Selector, layout)
}
