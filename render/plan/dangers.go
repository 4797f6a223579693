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

// dangers compares what a pool is made of.
func (c *Pool) dangers(was, is *schema.Pool, o render.Options) {
	if a, b := was.NamespaceOr(o.Namespace), is.NamespaceOr(o.Namespace); a != b {
		c.danger("namespace", fmt.Sprintf("the namespace changes from %s to %s: new bricks start on disks that the old ones hold", a, b), "keep the namespace, or make a new pool")
	}
	if a, b := render.VolumeID(was, o.Namespace), render.VolumeID(is, o.Namespace); a != b && is.Spec.Type != schema.External && was.Spec.Type != schema.External {
		c.danger("volume-id", fmt.Sprintf("the volume ID changes from %s to %s: bricks refuse to start", a, b), "keep volumeID: "+a)
	}
	if was.Spec.Type != is.Spec.Type && !c.typeChanged(&was.Spec, &is.Spec) {
		return // what follows compares like with like
	}
	if a, b := was.Spec.Disperse, is.Spec.Disperse; a != nil && b != nil && *a != *b {
		c.danger("disperse-changed", fmt.Sprintf("the coding changes from %d+%d to %d+%d: what is written cannot be read any more", a.Data, a.Redundancy, b.Data, b.Redundancy), "make a new pool and move the data")
	}
	c.bricks(&was.Spec, &is.Spec)
	c.generations(&was.Spec, &is.Spec)
	c.sets(&was.Spec, &is.Spec)
	c.tiebreaker(was.Spec.Tiebreaker, is.Spec.Tiebreaker)
	c.external(was.Spec.External, is.Spec.External)
	c.layouts(&was.Spec, &is.Spec)
}

// copyMore is the type that a pool of one set gets with one copy more.
var copyMore = map[schema.Type]schema.Type{schema.Replica1: schema.Replica2, schema.Replica2: schema.Replica3}

// typeChanged tells whether the rest can be compared: when just a copy is added.
func (c *Pool) typeChanged(was, is *schema.Spec) bool {
	const anew = "make a new pool and move the data"
	more := len(is.Bricks) - len(was.Bricks)
	switch {
	case copyMore[was.Type] == "" || is.Type == schema.External || is.Type == schema.Disperse || is.SetSize() <= was.SetSize():
		c.danger("type-changed", fmt.Sprintf("the type changes from %s to %s: what is on the bricks does not change with it", was.Type, is.Type), anew)
	case len(was.Sets()) > 1:
		c.danger("type-changed", fmt.Sprintf("the type changes from %s to %s, and the pool has several sets: bricks would change places", was.Type, is.Type), anew)
	case copyMore[was.Type] != is.Type || more != 1:
		c.danger("type-changed", fmt.Sprintf("the type changes from %s to %s and %d bricks are added: one copy can be added at a time", was.Type, is.Type, more),
			fmt.Sprintf("%s and one brick more, and the next when that has nothing to heal", copyMore[was.Type]))
	case was.Tiebreaker != nil:
		c.danger("type-changed", "a pool with a tiebreaker gets a copy more: the two kinds disagree about quorum", anew)
	default:
		c.Notes = append(c.Notes, fmt.Sprintf("brick %d joins as a copy more, some minutes after it is there: first all clients have to know of it. A node that hears of no change is shut out then", len(was.Bricks)))
		return true
	}
	return false
}

// bricks compares position by position: a brick's position is its identity.
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
			c.danger("brick-reordered", fmt.Sprintf("brick %d (%s) becomes brick %d: its position is its identity", i, place, now), "keep the order, and add bricks at the end")
		case i < len(is.Bricks) && !slices.ContainsFunc(was.Bricks, func(o schema.Brick) bool { return explain.Place(o) == explain.Place(is.Bricks[i]) }):
			c.danger("brick-moved", fmt.Sprintf("brick %d moves from %s to %s: its data stays behind and is healed from the others, if there are any", i, place, explain.Place(is.Bricks[i])),
				"one brick of a set at a time, and only when the set has nothing to heal")
		case b.Decommissioned && lastSets(was, i):
			c.Notes = append(c.Notes, fmt.Sprintf("brick %d (%s) was decommissioned and goes: apply this only when the pod that empties it is ready", i, place))
		default:
			c.danger("brick-removed", fmt.Sprintf("brick %d (%s) is removed: its files go with it", i, place), "decommissioned: true for all bricks of the last set, and remove them when they are empty")
		}
	}
}

// generations tells of bricks that are made anew where they are.
func (c *Pool) generations(was, is *schema.Spec) {
	for i := range min(len(was.Bricks), len(is.Bricks)) {
		a, b := generation(was.Bricks[i]), generation(is.Bricks[i])
		switch {
		case explain.Place(was.Bricks[i]) != explain.Place(is.Bricks[i]):
		case a < b:
			c.danger("brick-renewed", fmt.Sprintf("brick %d (%s) is made anew: what it had is given up and healed from the others, if there are any", i, explain.Place(is.Bricks[i])),
				"only if its data is lost, one brick of a set at a time, and only when the set has nothing to heal")
		case a > b:
			c.danger("brick-generation", fmt.Sprintf("the generation of brick %d goes from %d back to %d: the brick refuses to start", i, a, b), fmt.Sprintf("generation: %d", a))
		}
	}
}

func generation(b schema.Brick) int { return max(1, b.Generation) }

// sets tells of sets that lose more bricks in one change than they can be healed from.
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
			c.danger("set-lost", fmt.Sprintf("set %d keeps %d of the bricks that have its data and needs %d: its data is lost", first/size, kept, need),
				"one brick of a set at a time, the next when nothing is left to heal")
		}
	}
}

// replaced tells whether a brick is a new and empty one: at a place where none was, or
// made anew. One that only changes its position is not, and is told of elsewhere.
func replaced(was, is *schema.Spec, i int) bool {
	a, b := was.Bricks[i], is.Bricks[i]
	if explain.Place(a) == explain.Place(b) {
		return generation(a) < generation(b)
	}
	return !slices.ContainsFunc(was.Bricks, func(o schema.Brick) bool { return explain.Place(o) == explain.Place(b) })
}

// lastSets reports whether brick i and all behind it are decommissioned, so that
// no other changes its position.
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
		c.danger("tiebreaker-added", "a tiebreaker is added: clients with the old graph do not ask it, and the two kinds disagree about quorum", "restart all clients before a brick goes")
	case is == nil:
		c.danger("tiebreaker-removed", "the tiebreaker is removed: what it knows of stale bricks is lost", "heal everything first")
	default:
		c.danger("tiebreaker-moved", "the tiebreaker moves: what it knows of stale bricks stays behind", "heal everything first")
	}
}

func (c *Pool) external(was, is *schema.ExternalSpec) {
	if was == nil || is == nil {
		return
	}
	if was.Volume != is.Volume {
		c.danger("external-volume", fmt.Sprintf("the volume changes from %s to %s: volumes that exist are looked up where they are not", was.Volume, is.Volume), "make a new pool")
	}
	if !slices.ContainsFunc(is.Hosts, func(h string) bool { return slices.Contains(was.Hosts, h) }) {
		c.danger("external-hosts", "all hosts change: another cluster may have a volume of the same name", "change them in two steps, if it is the same cluster")
	}
}

func (c *Pool) layouts(was, is *schema.Spec) {
	for _, l := range []schema.Layout{schema.Subdirectory, schema.Block, schema.Single} {
		if was.Serves(l) && !is.Serves(l) {
			c.danger("layout-removed", fmt.Sprintf("the pool serves %s no more: volumes of that layout cannot be used", l), "keep the layout while such volumes exist")
		}
	}
}

// immutableFields are the fields that an API server never changes on an object
// that exists (Kubernetes 1.37, validation of storage and apps).
var immutableFields = map[string][]string{
	"StorageClass": {"provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"},
	"StatefulSet":  {"spec.serviceName", "spec.selector", "spec.podManagementPolicy", "spec.volumeClaimTemplates"},
}

// immutable reports fields that the API server would refuse to change.
func (c *Pool) immutable(o Object) {
	for _, field := range o.Fields {
		for _, fixed := range immutableFields[o.Kind] {
			if field == fixed || strings.HasPrefix(field, fixed+".") {
				c.danger("immutable", fmt.Sprintf("%s %s: %s cannot change, the API server refuses it", o.Kind, o.Name, field), "a class with another name; the old one stays while volumes use it")
			}
		}
	}
}

func isTemplate(field string) bool { return strings.HasPrefix(field, "spec.template.") }
