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

// renderedPool is what rendering a document results in. It is cached because pools are reconciled
// far more often than they change.
type renderedPool struct {
	document string // the document, in JSON
	revision string
	objects  []objectRef
}

// objectRef names an object that a pool is rendered to.
type objectRef struct {
	kind schema.GroupVersionKind
	key  client.ObjectKey
}

// parsedDocument is the result of parsing a resource.
type parsedDocument struct {
	version  string // of the resource, without its status
	document *pool.Pool
	err      error
}

// renderCache keeps parsed documents and rendered pools.
type renderCache struct {
	mu       sync.Mutex
	parsed   map[ctrl.Request]parsedDocument
	rendered map[ctrl.Request]*renderedPool
}

// parse parses a resource, once for each version of it.
func (d *renderCache) parse(ctx context.Context, req ctrl.Request, o v1alpha1.Object) (*pool.Pool, error) {
	version := fmt.Sprint(o.GetUID(), o.GetGeneration(), o.GetLabels(), documentAnnotations(o.GetAnnotations()))
	d.mu.Lock()
	cached := d.parsed[req]
	d.mu.Unlock()
	if cached.version == version {
		return cached.document, cached.err
	}
	document, err := parse(ctx, o)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.parsed == nil {
		d.parsed = map[ctrl.Request]parsedDocument{}
	}
	d.parsed[req] = parsedDocument{version, document, err}
	return document, err
}

// get returns a document's rendered pool, and calls render when it is not cached.
func (d *renderCache) get(
	req ctrl.Request, document *pool.Pool, render func() (apply.Pool, error),
) (*renderedPool, error) {
	text, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	cached := d.rendered[req]
	d.mu.Unlock()
	if cached != nil && cached.document == string(text) {
		return cached, nil
	}
	p, err := render()
	if err != nil {
		return nil, err
	}
	rendered := &renderedPool{document: string(text)}
	if rendered.revision, err = p.Revision(); err != nil {
		return nil, err
	}
	for _, o := range p.Objects {
		ref := objectRef{o.GetObjectKind().GroupVersionKind(), client.ObjectKeyFromObject(o)}
		rendered.objects = append(rendered.objects, ref)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rendered == nil {
		d.rendered = map[ctrl.Request]*renderedPool{}
	}
	d.rendered[req] = rendered
	return rendered, nil
}

// forget drops a deleted pool.
func (d *renderCache) forget(req ctrl.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.parsed, req)
	delete(d.rendered, req)
}
