package plan_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
	"github.com/atoll-storage/atoll/schema"
)

// Compare two states of a pool. Moving its only brick would lose its data.
func ExampleCompare() {
	pool := func(node string) *schema.Pool {
		return &schema.Pool{
			Metadata: schema.Metadata{Name: "scratch"},
			Spec:     schema.Spec{Type: schema.Replica1, Bricks: []schema.Brick{{Node: node, Path: "/srv/scratch"}}},
		}
	}
	p, err := plan.Compare([]*schema.Pool{pool("kube1")}, []*schema.Pool{pool("kube2")}, render.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range p.Pools[0].Dangers {
		fmt.Printf("%s\n  %s\n", d.Code, strings.ReplaceAll(d.Message, ": ", "\n  "))
	}
	// Output:
	// brick-moved
	//   brick 0 moves from kube1:/srv/scratch to kube2:/srv/scratch
	//   its data is not moved, but healed from others of its set, if any; a former brick in the new place is refused
	// set-lost
	//   set 0 keeps 0 of its bricks with data but needs 1
	//   its data is lost
}
