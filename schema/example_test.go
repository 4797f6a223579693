package schema_test

import (
	"fmt"

	"github.com/atoll-storage/atoll/schema"
)

// Six bricks of type Replica3 form two sets, over which files are distributed.
func ExampleSpec_Sets() {
	s := schema.Spec{Type: schema.Replica3, Bricks: []schema.Brick{
		{Node: "kube1", Path: "/srv/a"},
		{Node: "kube2", Path: "/srv/a"},
		{Node: "kube3", Path: "/srv/a"},
		{Node: "kube1", Path: "/srv/b"},
		{Node: "kube2", Path: "/srv/b"},
		{Node: "kube3", Path: "/srv/b"},
	}}
	for i, set := range s.Sets() {
		fmt.Println(i, set[0].Path, len(set))
	}
	// Output:
	// 0 /srv/a 3
	// 1 /srv/b 3
}
