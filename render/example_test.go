package render_test

import (
	"fmt"
	"log"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
)

// Render a pool and list its objects. YAML encodes them for kubectl.
func ExampleRender() {
	pool := &schema.Pool{
		Metadata: schema.Metadata{Name: "scratch"},
		Spec:     schema.Spec{Type: schema.Replica1, Bricks: []schema.Brick{{Node: "kube1", Path: "/srv/scratch"}}},
	}
	objects, err := render.Render(pool, render.Options{})
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range objects {
		fmt.Println(o.GetObjectKind().GroupVersionKind().Kind, o.GetNamespace(), o.GetName())
	}
	// Output:
	// ConfigMap atoll-system atoll-scratch-bricks
	// ConfigMap atoll-system atoll-scratch-catalog
	// Service atoll-system atoll-scratch
	// PodDisruptionBudget atoll-system atoll-scratch-set-0
	// StatefulSet atoll-system atoll-scratch-0
	// StorageClass  atoll.scratch
}
