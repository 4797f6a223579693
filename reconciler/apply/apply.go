// Package apply brings the rendered objects of pools into a cluster. Objects that differ are
// applied by server-side apply. Objects that are no longer rendered are deleted, unless they
// have data or are in use.
package apply

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
	"github.com/atoll-storage/atoll/schema"
)

// fieldManager is the owner of the applied fields, as managedFields lists it.
const fieldManager = "atoll"

// LabelInventory marks the ConfigMaps that list the objects applied for a pool.
const LabelInventory = "atoll.storage/inventory"

// Applier applies pools.
type Applier struct {
	client client.Client

	mu       sync.Mutex
	keysSeen map[string]time.Time // by namespace: when the agent keys were last seen
}

// New returns an Applier for a cluster.
func New(config *rest.Config) (*Applier, error) {
	c, err := client.New(config, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return &Applier{client: c}, nil
}

// Pool is a rendered pool.
type Pool struct {
	Namespace, Name string
	Objects         []render.Object
	Document        *schema.Pool
	Options         render.Options // the options it was rendered with
	Source          string         // where the document came from, such as "command"

	removing bool // the whole pool is removed, bricks included
}

// Render renders a document that loader.Load has found valid.
func Render(document *schema.Pool, o render.Options) (Pool, error) {
	objects, err := render.Render(document, o)
	return Pool{
		Namespace: document.NamespaceOr(o.Namespace), Name: document.Metadata.Name,
		Objects: objects, Document: document, Options: o,
	}, err
}

// Revision identifies the rendered objects of a pool by their hash.
func (p Pool) Revision() (string, error) {
	objects, err := convertAll(p.Objects)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(objects)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:8]), nil
}

// Action is what Apply does to an object.
type Action string

// Actions. A Kept object is no longer rendered, and stays for the reason in Change.Reason.
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
	Deleted    Action = "deleted"
	Kept       Action = "kept"
)

// Change is the result for one object.
type Change struct {
	Reference
	Action Action `json:"action"`
	Reason string `json:"reason,omitempty"`
	// Fields are the fields that Plan would change.
	Fields []plan.Difference `json:"fields,omitempty"`
	// State is the State of the written object, "" when nothing was written.
	State string `json:"-"`
}

// State identifies a version of an object. It differs after every change except those of the
// status.
func State(o metav1.Object) string {
	version := o.GetResourceVersion()
	if o.GetGeneration() > 0 { // other controllers write the status all the time
		version = fmt.Sprint(o.GetGeneration(), o.GetLabels(), o.GetAnnotations())
	}
	return string(o.GetUID()) + " " + version
}

// Result lists the changes of a pool.
type Result struct {
	Pool      string   `json:"pool"`
	Namespace string   `json:"namespace"`
	Changes   []Change `json:"changes"`
}

// ErrRefused reports that the API server rejected an object of the pool in a dry run.
// Nothing of the pool was applied.
var ErrRefused = errors.New("the cluster refuses the pool; nothing of it was applied")

// Plan returns what Apply would do, found by a dry run in the API server.
func (a *Applier) Plan(ctx context.Context, p Pool) (Result, error) {
	r := Result{Pool: p.Name, Namespace: p.Namespace}
	objects, err := convertAll(p.Objects)
	if err != nil {
		return r, err
	}
	before, err := a.inventory(p).load(ctx)
	if err != nil {
		return r, err
	}
	if err := a.guard(ctx, p, before.document); err != nil {
		return r, err
	}
	if r.Changes, err = a.dryRun(ctx, p, before, objects); err != nil {
		return r, err
	}
	stale, err := a.findStale(ctx, p, before.objects, objects)
	r.Changes = append(r.Changes, stale...)
	return r, err
}

// Apply creates, updates and deletes the objects of a pool. It is idempotent, and safe to
// interrupt anywhere.
func (a *Applier) Apply(ctx context.Context, p Pool) (Result, error) {
	r := Result{Pool: p.Name, Namespace: p.Namespace}
	objects, err := convertAll(p.Objects)
	if err != nil {
		return r, err
	}
	inventory := a.inventory(p)
	before, err := inventory.load(ctx)
	if err != nil {
		return r, err
	}
	if err := a.guard(ctx, p, before.document); err != nil {
		return r, err
	}
	planned, err := a.dryRun(ctx, p, before, objects)
	if err != nil {
		return r, err
	}
	if err := a.ensureKeys(ctx, p.Namespace); err != nil {
		return r, err
	}
	current := references(objects)
	both := record{slices.Concat(before.objects, current), p.Document, p.Source}
	if err := inventory.save(ctx, before, both); err != nil {
		return r, err
	}
	if r.Changes, err = a.write(ctx, objects, planned); err != nil {
		return r, fmt.Errorf("apply pool %s: %w", p.Name, err)
	}
	stale, err := a.findStale(ctx, p, before.objects, objects)
	if err != nil {
		return r, err
	}
	for _, c := range stale {
		if c.Action == Kept {
			current = append(current, c.Reference)
			continue
		}
		if err := client.IgnoreNotFound(a.client.Delete(ctx, c.object())); err != nil {
			return r, fmt.Errorf("delete %s of pool %s: %w", c.Reference, p.Name, err)
		}
	}
	r.Changes = append(r.Changes, stale...)
	// The inventory saved above lists old and new objects. The deleted ones may leave it only now.
	slices.SortFunc(both.objects, compare)
	both.objects = slices.Compact(both.objects)
	return r, inventory.save(ctx, both, record{current, p.Document, p.Source})
}

func (a *Applier) inventory(p Pool) inventory {
	return inventory{client: a.client, namespace: p.Namespace, pool: p.Name}
}

// write applies the objects that the dry run found different, in rendering order: StorageClasses
// come last, after everything that volumes need. No object waits for another to become ready,
// and no object is deleted to be created again (docs/decisions/0012).
func (a *Applier) write(ctx context.Context, objects []*unstructured.Unstructured, planned []Change) ([]Change, error) {
	var done []Change
	for i, o := range objects {
		if planned[i].Action != Unchanged {
			applied := o.DeepCopy()
			if err := serverSideApply(ctx, a.client, applied); err != nil {
				return done, withRemedy(o, err)
			}
			planned[i].State = State(applied)
		}
		done = append(done, planned[i])
	}
	return done, nil
}

// serverSideApply sends an object to the API server, and replaces it by the response.
func serverSideApply(ctx context.Context, c client.Client, o *unstructured.Unstructured,
	more ...client.ApplyOption,
) error {
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o),
		append(more, client.ForceOwnership, client.FieldOwner(fieldManager))...)
}
