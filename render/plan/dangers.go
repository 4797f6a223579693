package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/explain"
	"github.com/atoll-storage/atoll/schema"
)

// dangers compares two documents of a pool and records dangerous changes.
func (c *Pool) dangers(was, is *schema.Pool, o render.Options) {
	if a, b := was.NamespaceOr(o.Namespace), is.NamespaceOr(o.Namespace); a != b {
		c.danger("namespace",
			fmt.Sprintf("the namespace changes from %s to %s: new bricks would start on disks that the old ones use", a,
				b),
			"keep the namespace, or create a new pool")
	}
	if a, b := render.VolumeID(was, o.Namespace), render.VolumeID(is, o.Namespace); a != b &&
		is.Spec.Type != schema.External && was.Spec.Type != schema.External {
		c.danger("volume-id", fmt.Sprintf("the volume ID changes from %s to %s: bricks refuse to start", a, b),
			"keep volumeID: "+a)
	}
	if was.Spec.Type != is.Spec.Type && !c.typeChanged(&was.Spec, &is.Spec) {
		return // the other checks compare pools of the same type
	}
	if a, b := was.Spec.Disperse, is.Spec.Disperse; a != nil && b != nil && *a != *b {
		c.danger("disperse-changed",
			fmt.Sprintf("the coding changes from %d+%d to %d+%d: existing data becomes unreadable",
				a.Data, a.Redundancy, b.Data, b.Redundancy), newPool)
	}
	c.bricks(&was.Spec, &is.Spec)
	c.generations(&was.Spec, &is.Spec)
	c.sets(&was.Spec, &is.Spec)
	c.tiebreaker(was.Spec.Tiebreaker, is.Spec.Tiebreaker)
	c.external(was.Spec.External, is.Spec.External)
	c.layouts(&was.Spec, &is.Spec)
}

// newPool is the advice for changes that a pool cannot survive.
const newPool = "create a new pool and move the data"

// withCopy is the type of a pool of one set after one copy was added.
var withCopy = map[schema.Type]schema.Type{schema.Replica1: schema.Replica2, schema.Replica2: schema.Replica3}

// typeChanged records a danger unless the change of type only adds one copy, and reports
// whether it does. Only then can the bricks be compared.
func (c *Pool) typeChanged(was, is *schema.Spec) bool {
	added := len(is.Bricks) - len(was.Bricks)
	change := fmt.Sprintf("the type changes from %s to %s", was.Type, is.Type)
	switch {
	case withCopy[was.Type] == "" || is.Type == schema.External || is.Type == schema.Disperse ||
		is.SetSize() <= was.SetSize():
		c.danger("type-changed", change+": the data on the bricks is not converted", newPool)
	case len(was.Sets()) > 1:
		c.danger("type-changed", change+", but the pool has several sets: bricks would move between sets", newPool)
	case withCopy[was.Type] != is.Type || added != 1:
		c.danger("type-changed",
			fmt.Sprintf("%s and %d bricks are added: only one copy can be added at a time", change, added),
			fmt.Sprintf("%s and one more brick; the next copy when that brick has no pending heals",
				withCopy[was.Type]))
	case was.Tiebreaker != nil:
		c.danger("type-changed",
			"a copy is added to a pool with a tiebreaker: clients with the old graph use a different quorum", newPool)
	default:
		c.Notes = append(c.Notes,
			fmt.Sprintf("brick %d joins as a new copy some minutes after it starts, when clients have the new graph; "+
				"then clients that still have the old graph are disconnected", len(was.Bricks)))
		return true
	}
	return false
}

// bricks compares bricks by position, which is their identity.
func (c *Pool) bricks(was, is *schema.Spec) {
	position := map[string]int{}
	for i, b := range is.Bricks {
		position[explain.Place(b)] = i
	}
	for i, b := range was.Bricks {
		place := explain.Place(b)
		now, still := position[place]
		switch {
		case still && now == i:
		case still:
			c.danger("brick-reordered",
				fmt.Sprintf("brick %d (%s) becomes brick %d: its position is its identity", i, place, now),
				"keep the order, and add bricks at the end")
		case i < len(is.Bricks) && !slices.ContainsFunc(was.Bricks,
			func(o schema.Brick) bool { return explain.Place(o) == explain.Place(is.Bricks[i]) }):
			c.danger("brick-moved",
				fmt.Sprintf("brick %d moves from %s to %s: its data is not moved, but healed from others of its set, if any; "+
					"a former brick in the new place is refused", i, place, explain.Place(is.Bricks[i])), oneBrick)
		case b.Decommissioned && lastSets(was, i):
			c.Notes = append(c.Notes,
				fmt.Sprintf("decommissioned brick %d (%s) is removed: apply this only when the rebalance pod is ready",
					i, place))
		default:
			c.danger("brick-removed", fmt.Sprintf("brick %d (%s) is removed with its files", i, place),
				"set decommissioned: true on all bricks of the last set, and remove them when they are empty")
		}
	}
}

// oneBrick is the advice for changes that make a brick empty.
const oneBrick = "one brick of a set at a time, and only when the set has no pending heals"

// generations records bricks that are replaced by new ones in the same place.
func (c *Pool) generations(was, is *schema.Spec) {
	for i := range min(len(was.Bricks), len(is.Bricks)) {
		a, b := generation(was.Bricks[i]), generation(is.Bricks[i])
		switch {
		case explain.Place(was.Bricks[i]) != explain.Place(is.Bricks[i]):
		case a < b:
			c.danger("brick-renewed",
				fmt.Sprintf("brick %d (%s) is recreated: its data is discarded and healed from others of its set, if any",
					i, explain.Place(is.Bricks[i])), "only if its data is lost; "+oneBrick)
		case a > b:
			c.danger("brick-generation",
				fmt.Sprintf("the generation of brick %d decreases from %d to %d: the brick refuses to start", i, a, b),
				fmt.Sprintf("generation: %d", a))
		}
	}
}

func generation(b schema.Brick) int { return max(1, b.Generation) }

// sets records sets that lose more bricks in one change than they can recover from.
func (c *Pool) sets(was, is *schema.Spec) {
	size := was.SetSize()
	if size < 1 {
		return
	}
	for first := 0; first+size <= min(len(was.Bricks), len(is.Bricks)); first += size {
		kept := 0
		for i := first; i < first+size; i++ {
			isArbiter := was.Type == schema.Arbiter && i == first+size-1 // it has no data
			if !isArbiter && !replaced(was, is, i) {
				kept++
			}
		}
		if need := was.DataBricks(); kept < need {
			c.danger("set-lost", fmt.Sprintf("set %d keeps %d of its bricks with data but needs %d: its data is lost",
				first/size, kept, need), oneBrick)
		}
	}
}

// replaced reports whether a brick becomes a new, empty one: in a new place or of a higher
// generation. A brick that only changes its position is not replaced; bricks reports that.
func replaced(was, is *schema.Spec, i int) bool {
	a, b := was.Bricks[i], is.Bricks[i]
	if explain.Place(a) == explain.Place(b) {
		return generation(a) < generation(b)
	}
	return !slices.ContainsFunc(was.Bricks, func(o schema.Brick) bool { return explain.Place(o) == explain.Place(b) })
}

// lastSets reports whether brick i and all after it are decommissioned, so that their removal
// does not change the position of others.
func lastSets(s *schema.Spec, i int) bool {
	for _, b := range s.Bricks[i:] {
		if !b.Decommissioned {
			return false
		}
	}
	return true
}

func (c *Pool) tiebreaker(was, is *schema.Tiebreaker) {
	if reflect.DeepEqual(was, is) {
		return
	}
	switch {
	case was == nil:
		c.danger("tiebreaker-added",
			"a tiebreaker is added: clients with the old graph do not ask it and use a different quorum",
			"restart all clients before a brick goes offline")
	case is == nil:
		c.danger("tiebreaker-removed", "the tiebreaker is removed: its record of stale bricks is lost",
			"heal everything first")
	default:
		c.danger("tiebreaker-moved", "the tiebreaker moves: its record of stale bricks is lost",
			"heal everything first")
	}
}

func (c *Pool) external(was, is *schema.ExternalSpec) {
	if was == nil || is == nil {
		return
	}
	if was.Volume != is.Volume {
		c.danger("external-volume",
			fmt.Sprintf("the volume changes from %s to %s: existing volumes would be looked up in the wrong place",
				was.Volume, is.Volume), "create a new pool")
	}
	if !slices.ContainsFunc(is.Hosts, func(h string) bool { return slices.Contains(was.Hosts, h) }) {
		c.danger("external-hosts", "all hosts change: another cluster may have a volume with the same name",
			"if it is the same cluster, change the hosts in two steps")
	}
}

func (c *Pool) layouts(was, is *schema.Spec) {
	for _, l := range []schema.Layout{schema.Subdirectory, schema.Block, schema.Single} {
		if was.Serves(l) && !is.Serves(l) {
			c.danger("layout-removed",
				fmt.Sprintf("the pool no longer serves %s: volumes of that layout become unusable", l),
				"keep the layout while such volumes exist")
		}
	}
}

// immutableFields are the fields that an API server never changes on an existing object
// (Kubernetes 1.37, validation of storage and apps).
var immutableFields = map[string][]string{
	"StorageClass": {"provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"},
	"StatefulSet":  {"spec.serviceName", "spec.selector", "spec.podManagementPolicy", "spec.volumeClaimTemplates"},
}

// immutable records changes of immutable fields.
func (c *Pool) immutable(o Object) {
	for _, field := range o.Fields {
		for _, fixed := range immutableFields[o.Kind] {
			if field == fixed || strings.HasPrefix(field, fixed+".") {
				c.danger("immutable", fmt.Sprintf("%s %s: %s cannot change, the API server rejects it", o.Kind, o.Name,
					field),
					"a class with another name; keep the old one while volumes use it")
			}
		}
	}
}

func isTemplate(field string) bool { return strings.HasPrefix(field, "spec.template.") }
