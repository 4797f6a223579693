package loader

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// maxWorkloadName is the longest name of a StatefulSet whose pods can have it in a label:
// 63 characters, less '-' and the ten characters of the controller's hash.
const maxWorkloadName = 52

func (c *checker) pool() {
	s := &c.document.Pool.Spec
	c.names(s)
	c.layouts(s)
	c.classes(s)
	c.tolerations(s)
	c.clientOptions(s)
	if s.Type == schema.External {
		return
	}
	c.sets(s)
	c.tiebreaker(s)
	c.volumeOptions(s)
	c.resources(s)
	c.systemPlaces(s)
}

// names checks the limits of Kubernetes for names with the renderer's prefix and the
// brick's index.
func (c *checker) names(s *schema.Spec) {
	name := c.document.Pool.Metadata.Name
	last := "-ta"
	if n := len(s.Bricks); n > 0 {
		last = "-" + strconv.Itoa(max(n-1, 10)) // room to grow to a second digit
	}
	if longest := "atoll-" + name + last; s.Type != schema.External && len(longest) > maxWorkloadName {
		c.fail("metadata.name", "name-length",
			fmt.Sprintf("the StatefulSet of a brick would be named %s, %d characters", longest, len(longest)),
			fmt.Sprintf("a name of at most %d characters", maxWorkloadName-len(longest)+len(name)))
	}
}

// sets checks how bricks form sets, and each set.
func (c *checker) sets(s *schema.Spec) {
	if s.Type == schema.Disperse && s.Disperse != nil && s.Disperse.Data > 0 &&
		s.Disperse.Redundancy >= s.Disperse.Data {
		c.fail("spec.disperse", "disperse-arithmetic",
			fmt.Sprintf("%d+%d: redundancy must be less than data, or losing bricks would leave no majority",
				s.Disperse.Data, s.Disperse.Redundancy),
			fmt.Sprintf("redundancy of at most %d with %d data bricks", s.Disperse.Data-1, s.Disperse.Data))
	}
	size := s.SetSize()
	if size < 1 || len(s.Bricks) == 0 {
		return
	}
	if rest := len(s.Bricks) % size; rest != 0 {
		c.fail("spec.bricks", "brick-count",
			fmt.Sprintf("%d bricks, but a set of %s has %d", len(s.Bricks), describe(s), size),
			multiples(size, len(s.Bricks)-rest))
	}
	for first := 0; first < len(s.Bricks); first += size {
		c.set(s, first, s.Bricks[first:min(first+size, len(s.Bricks))])
	}
}

// multiples describes the numbers of bricks nearest to the given one that form whole sets.
func multiples(size, below int) string {
	if below == 0 {
		return fmt.Sprintf("%d bricks, or a multiple", size)
	}
	return fmt.Sprintf("%d or %d bricks", below, below+size)
}

func describe(s *schema.Spec) string {
	if s.Type == schema.Disperse {
		return fmt.Sprintf("Disperse %d+%d", s.Disperse.Data, s.Disperse.Redundancy)
	}
	return string(s.Type)
}

// set checks that the bricks of a set are on different nodes, and that all or none of them
// are decommissioned.
func (c *checker) set(s *schema.Spec, first int, set []schema.Brick) {
	brickOf := map[string]int{} // by node
	leaving := 0
	for i, b := range set {
		if b.Decommissioned {
			leaving++
		}
		other, found := brickOf[b.Node]
		if b.Node == "" {
			continue
		}
		if !found {
			brickOf[b.Node] = first + i
			continue
		}
		path := fmt.Sprintf("spec.bricks[%d].node", first+i)
		message := fmt.Sprintf("node %s already has brick %d of this set: losing the node loses both", b.Node, other)
		switch {
		case s.AllowSameNode:
		case s.Type == schema.Replica2:
			c.warn(path, "same-node", message, "a different node for each brick of a set")
		default:
			c.fail(path, "same-node", message, "a different node for each brick of a set, or allowSameNode: true")
		}
	}
	if leaving != 0 && leaving != len(set) {
		i := first + slices.IndexFunc(set, func(b schema.Brick) bool { return b.Decommissioned })
		c.fail(fmt.Sprintf("spec.bricks[%d].decommissioned", i), "decommission-set",
			fmt.Sprintf("%d of %d bricks of the set are decommissioned", leaving, len(set)),
			"all bricks of a set, or none; to replace a brick, change its node, device, path or pvc")
	}
	if leaving == len(s.Bricks) && first == 0 {
		c.fail("spec.bricks", "decommission-all", "all bricks are decommissioned, so no brick can take over the data",
			"at least one set that stays")
	}
}

func (c *checker) tiebreaker(s *schema.Spec) {
	t := s.Tiebreaker
	if t == nil || t.Node == "" {
		return
	}
	for i, b := range s.Bricks {
		if b.Node == t.Node && !s.AllowSameNode {
			c.fail("spec.tiebreaker.node", "tiebreaker-node",
				fmt.Sprintf("node %s has brick %d: losing the node loses both", t.Node, i),
				"a node without bricks of this pool")
			return
		}
	}
}

func (c *checker) layouts(s *schema.Spec) {
	for i, l := range s.Volumes {
		path := fmt.Sprintf("spec.volumes[%d]", i)
		if slices.Contains(s.Volumes[:i], l) {
			c.fail(path, "layout-twice", fmt.Sprintf("%s is listed twice", l), "each layout once")
		}
		if l == schema.Single && len(s.Volumes) > 1 {
			c.fail(path, "layout-single", "Single makes the whole pool one volume, so no other layout is possible",
				"[Single] alone, or the other layouts")
		}
		if l == schema.Block && s.Type == schema.External {
			c.fail(path, "layout-external",
				"an External volume cannot serve Block: Atoll cannot fence writers at its bricks",
				"Subdirectory or Single")
		}
		if l == schema.Block && s.Type == schema.Disperse {
			c.warn(path, "layout-disperse",
				"a node loses its block volumes when a second brick restarts or the pool's graph changes: "+
					"Disperse does not reacquire locks",
				"Replica3 or Arbiter for block volumes, or pods that tolerate restarts (docs/block-volumes.md)")
		}
	}
}

// reserved are the parameters of a class that the renderer sets.
var reserved = []string{
	schema.ParameterPool, schema.ParameterPoolSelector, schema.ParameterLayout, schema.ParameterReclaim,
	schema.ParameterRecovery,
}

func (c *checker) classes(s *schema.Spec) {
	for i, class := range s.StorageClasses {
		path := fmt.Sprintf("spec.storageClasses[%d]", i)
		if class.Layout != "" && !s.Serves(class.Layout) {
			c.fail(path+".layout", "class-layout", fmt.Sprintf("the pool does not serve %s", class.Layout),
				"a layout of spec.volumes, or add it there")
		}
		for name := range class.Parameters {
			if slices.Contains(reserved, name) || strings.HasPrefix(name, "csi.storage.k8s.io/") &&
				name != "csi.storage.k8s.io/fstype" {
				c.fail(path+".parameters["+strconv.Quote(name)+"]", "class-parameter",
					fmt.Sprintf("the parameter %s is reserved", name), "remove it")
			}
		}
	}
}

func (c *checker) tolerations(s *schema.Spec) {
	for i, t := range s.Tolerations {
		path := fmt.Sprintf("spec.tolerations[%d]", i)
		switch {
		case t.Operator == "Exists" && t.Value != "":
			c.fail(path+".value", "toleration", "value must be empty with operator Exists",
				"operator Equal, or no value")
		case t.Operator != "Exists" && t.Key == "":
			c.fail(path, "toleration", "a toleration without a key tolerates everything and needs operator Exists",
				"a key, or operator: Exists")
		case t.TolerationSeconds != nil && t.Effect != "NoExecute":
			c.fail(path+".tolerationSeconds", "toleration", "tolerationSeconds needs effect NoExecute",
				"effect: NoExecute")
		}
	}
}
