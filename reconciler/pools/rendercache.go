package pools

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	pool "github.com/atoll-storage/atoll/schema"
)

// rendered is what follows from a document alone, and is worth remembering: pools are looked
// at far more often than they change.
type rendered struct {
	of       string // the document, in JSON
	revision string
	objects  []object
}

// object names one that a pool is rendered to.
type object struct {
	kind schema.GroupVersionKind
	key  client.ObjectKey
}

// reading is what package schema has made of a resource.
type reading struct {
	of       string // the resource, less its status
	document *pool.Pool
	err      error
}

// renderCache are remembered by pool.
type renderCache struct {
	mu       sync.Mutex
	readings map[ctrl.Request]reading
	drawings map[ctrl.Request]*rendered
}

// read is package schema's reading of a resource, done once for each version of it.
func (d *renderCache) read(ctx context.Context, req ctrl.Request, o v1alpha1.Object) (*pool.Pool, error) {
	of := fmt.Sprint(o.GetUID(), o.GetGeneration(), o.GetLabels(), described(o.GetAnnotations()))
	d.mu.Lock()
	known := d.readings[req]
	d.mu.Unlock()
	if known.of == of {
		return known.document, known.err
	}
	document, err := read(ctx, o)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.readings == nil {
		d.readings = map[ctrl.Request]reading{}
	}
	d.readings[req] = reading{of, document, err}
	return document, err
}

// draw gives the drawing of a document; render renders it, when that is not known.
func (d *renderCache) draw(req ctrl.Request, document *pool.Pool, render func() (apply.Pool, error)) (*rendered, error) {
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	known := d.drawings[req]
	d.mu.Unlock()
	if known != nil && known.of == string(text) {
		return known, nil
	}
	p, err := render()
	if err != nil {
		return nil, err
	}
	now := &rendered{of: string(text)}
	if now.revision, err = p.Revision(); err != nil {
		return nil, err
	}
	for _, o := range p.Objects {
		now.objects = append(now.objects, object{o.GetObjectKind().GroupVersionKind(), client.ObjectKeyFromObject(o)})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drawings == nil {
		d.drawings = map[ctrl.Request]*rendered{}
	}
	d.drawings[req] = now
	return now, nil
}

// forget forgets a pool that has gone.
func (d *renderCache) forget(req ctrl.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.readings, req)
	delete(d.drawings, req)
}
