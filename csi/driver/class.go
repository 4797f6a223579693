package driver

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
)

// Parameters of a class beside those of package schema.
const (
	parameterOvercommit = "overcommit"
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
		case strings.HasPrefix(name, prefixSidecar):
		default:
			err = invalid("the parameter %q is not known; a StorageClass of Atoll has pool or poolSelector, layout, reclaim, overcommit", name)
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

// layoutIn is the layout of the class's volumes in a pool.
func (c class) layoutIn(p catalog.Pool) schema.Layout { return cmp.Or(c.layout, p.Layouts[0]) }

// names are the pools to look at: those that the class names, or all.
func (c class) names(d *Driver) ([]string, error) {
	if len(c.pools) > 0 {
		names := slices.Clone(c.pools)
		slices.Sort(names)
		return slices.Compact(names), nil
	}
	return d.Catalog.Names()
}
