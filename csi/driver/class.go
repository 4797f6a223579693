package driver

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/schema"
)

// Parameters of a class beside those of package schema.
const (
	parameterOvercommit    = "overcommit"
	parameterFormatOptions = "mkfsOptions"
	parameterRawShared     = "rawReadWriteMany"
	// sidecars add parameters of their own under this prefix.
	prefixSidecar = "csi.storage.k8s.io/"
)

// class is what a StorageClass's parameters say.
type class struct {
	pools      []string          // by name, or
	selector   map[string]string // by label and type
	layout     schema.Layout     // "" is the pool's first
	reclaim    schema.Reclaim    // "" is the pool's
	overcommit float64
	mkfs       string // words for the program that makes the file system of a block volume
	rawShared  bool   // raw block volumes may be asked for by several nodes at once
	// capabilities are what the volume is asked for with; they are of the request.
	capabilities []*csi.VolumeCapability
	source       source // and so is this
	sized        bool   // and whether it asks for a size
}

func readClass(parameters map[string]string) (class, error) {
	c := class{overcommit: 1}
	for name, value := range parameters {
		var err error
		switch {
		case name == schema.ParameterPool:
			c.pools = strings.Split(value, ",")
			for i := range c.pools {
				c.pools[i] = strings.TrimSpace(c.pools[i])
			}
		case name == schema.ParameterPoolSelector:
			c.selector, err = readSelector(value)
		case name == schema.ParameterLayout:
			c.layout = schema.Layout(value)
		case name == schema.ParameterReclaim:
			c.reclaim, err = readReclaim(value)
		case name == parameterOvercommit:
			if c.overcommit, err = strconv.ParseFloat(value, 64); err != nil || !(c.overcommit >= 1 && c.overcommit <= 100) {
				err = invalid("the parameter overcommit is %q; it is a number from 1 (no more than there is) to 100", value)
			}
		case name == parameterFormatOptions:
			c.mkfs = value
		case name == parameterRawShared:
			if c.rawShared = value == "true"; !c.rawShared && value != "false" {
				err = invalid("the parameter %s is %q; it is \"true\" or \"false\"", parameterRawShared, value)
			}
		case strings.HasPrefix(name, prefixSidecar):
		default:
			err = invalid("the parameter %q is not known; a StorageClass of Atoll has pool or poolSelector, layout, reclaim, overcommit, mkfsOptions, rawReadWriteMany", name)
		}
		if err != nil {
			return class{}, err
		}
	}
	if len(c.pools) == 0 && len(c.selector) == 0 {
		return class{}, invalid("the StorageClass names no pool; set the parameter pool or poolSelector")
	}
	return c, nil
}

func readSelector(text string) (map[string]string, error) {
	selector := map[string]string{}
	for pair := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found || name == "" {
			return nil, invalid("the parameter poolSelector is %q; it looks like type=Replica3,tier=fast", text)
		}
		selector[name] = value
	}
	return selector, nil
}

func readReclaim(text string) (schema.Reclaim, error) {
	r := schema.Reclaim(text)
	if !slices.Contains([]schema.Reclaim{schema.ReclaimDelete, schema.ReclaimArchive, schema.ReclaimRetain}, r) {
		return "", invalid("the parameter reclaim is %q; it is Delete, Archive or Retain", text)
	}
	return r, nil
}

// takes reports whether the class may use the pool.
func (c class) takes(p catalog.Pool) bool {
	if len(c.pools) > 0 && !slices.Contains(c.pools, p.Pool) {
		return false
	}
	for name, value := range c.selector {
		if name == "type" && string(p.Type) != value || name != "type" && p.Labels[name] != value {
			return false
		}
	}
	return slices.Contains(p.Layouts, c.layoutIn(p))
}

// serves reports whether the pool's volumes of the class can do what they are asked for.
func (c class) serves(p catalog.Pool) error {
	for _, one := range c.capabilities {
		if err := checkFor(one, c.layoutIn(p), c.shares()); err != nil {
			return err
		}
	}
	return nil
}

// shares reports whether several nodes are to have the volume: its class allows that, and
// it is asked for.
func (c class) shares() bool { return c.rawShared && slices.ContainsFunc(c.capabilities, isShared) }

// onBlocks adds to a claim what block volumes need: what is to be on them, xfs unless
// something else is usual, and room for it.
func (c class) onBlocks(claim backend.CreateRequest, usual string) (backend.CreateRequest, error) {
	claim.FileSystem, claim.FormatOptions, claim.Shared = "", "", c.shares()
	for _, one := range c.capabilities {
		if one.GetMount() != nil {
			claim.FileSystem, claim.FormatOptions = cmp.Or(one.GetMount().GetFsType(), usual, filesystem.XFS), c.mkfs
		}
	}
	if claim.FileSystem != "" {
		if _, err := filesystem.Options(claim.FileSystem, c.mkfs); err != nil {
			return claim, invalid("the parameter %s: %v", parameterFormatOptions, err)
		}
	}
	claim.Size = max(claim.Size, filesystem.MinSize[claim.FileSystem])
	claim.Size = (claim.Size + blockUnit - 1) / blockUnit * blockUnit
	if claim.Limit > 0 && claim.Size > claim.Limit {
		return claim, fmt.Errorf("%w: a block volume with %s has at least %d bytes, in units of %d", errRange, cmp.Or(claim.FileSystem, "nothing on it"), filesystem.MinSize[claim.FileSystem], blockUnit)
	}
	return claim, nil
}

// blockUnit is what sizes of block volumes are a multiple of, in bytes.
const blockUnit = 1 << 20

// layoutIn is the layout of the class's volumes in a pool.
func (c class) layoutIn(p catalog.Pool) schema.Layout { return cmp.Or(c.layout, p.Layouts[0]) }

// names are the pools to look at: those that the class names, or all; for a copy, that of
// its source.
func (c class) names(d *Driver) ([]string, error) {
	if c.source.pool != "" {
		return []string{c.source.pool}, nil
	}
	if len(c.pools) > 0 {
		names := slices.Clone(c.pools)
		slices.Sort(names)
		return slices.Compact(names), nil
	}
	return d.Catalog.Names()
}
