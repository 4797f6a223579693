// Package apply makes a cluster have what pools are rendered to: what differs is applied
// by server-side apply, what is not rendered any more is taken away, and what has data, or
// is in use, is not.
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

	"github.com/fluxcd/pkg/ssa"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
	"github.com/atoll-storage/atoll/schema"
)

// fieldManager is the name under which fields are owned, in the API server and in
// managedFields.
const fieldManager = "atoll"

// LabelInventory is on the ConfigMaps that list what was applied for a pool.
const LabelInventory = "atoll.storage/inventory"

// Applier applies pools.
type Applier struct {
	client  client.Client
	manager *ssa.ResourceManager

	mu    sync.Mutex
	keyed map[string]time.Time // by namespace: when the keys of the agents were seen there
}

// New connects to a cluster.
func New(config *rest.Config) (*Applier, error) {
	c, err := client.New(config, client.Options{})
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	// It compares, and waits for nothing: it needs no poller.
	return &Applier{client: c, manager: ssa.NewResourceManager(c, nil, ssa.Owner{Field: fieldManager, Group: "atoll.storage"})}, nil
}

// Pool is one that is rendered.
type Pool struct {
	Namespace, Name string
	Objects         []render.Object
	Document        *schema.Pool
	Options         render.Options // that it was rendered with
	Source          string         // where the document is from, such as "command"

	leaves bool // all of it goes: its bricks too
}

// Render renders a document, which loader.Load has found valid.
func Render(document *schema.Pool, o render.Options) (Pool, error) {
	objects, err := render.Render(document, o)
	return Pool{
		Namespace: document.NamespaceOr(o.Namespace), Name: document.Metadata.Name,
		Objects: objects, Document: document, Options: o,
	}, err
}

// Revision names what a pool is rendered to.
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

// Action is what happens to an object.
type Action string

// Actions. Kept is what is not rendered any more and stays, for the reason that Change
// gives.
const (
	Created    Action = "created"
	Configured Action = "configured"
	Unchanged  Action = "unchanged"
	Deleted    Action = "deleted"
	Kept       Action = "kept"
)

// Change is what happens to one object.
type Change struct {
	Reference
	Action Action `json:"action"`
	Reason string `json:"reason,omitempty"`
	// Fields are those that Plan would change.
	Fields []plan.Difference `json:"fields,omitempty"`
	// State is State of what was written, "" when nothing was.
	State string `json:"-"`
}

// State is another one whenever somebody has changed an object, but for its status.
func State(o metav1.Object) string {
	version := o.GetResourceVersion()
	if o.GetGeneration() > 0 { // its status changes all the time, and is not ours
		version = fmt.Sprint(o.GetGeneration(), o.GetLabels(), o.GetAnnotations())
	}
	return string(o.GetUID()) + " " + version
}

// Result is what happens to a pool.
type Result struct {
	Pool      string   `json:"pool"`
	Namespace string   `json:"namespace"`
	Changes   []Change `json:"changes"`
}

// ErrRefused says that the API server would not take what a pool has become. Nothing of
// the pool was applied.
var ErrRefused = errors.New("the cluster refuses the pool; nothing of it was applied")

// Plan tells what Apply would do, by asking the API server to try.
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
	gone, err := a.findStale(ctx, p, before.objects, objects)
	r.Changes = append(r.Changes, gone...)
	return r, err
}

// Apply makes the cluster have the pool. It can be repeated, and be cut off anywhere.
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
	tried, err := a.dryRun(ctx, p, before, objects)
	if err != nil {
		return r, err
	}
	if err := a.keys(ctx, p.Namespace); err != nil {
		return r, err
	}
	wanted := references(objects)
	both := record{slices.Concat(before.objects, wanted), p.Document, p.Source}
	if err := inventory.save(ctx, before, both); err != nil {
		return r, err
	}
	if r.Changes, err = a.write(ctx, objects, tried); err != nil {
		return r, fmt.Errorf("applying pool %s: %w", p.Name, err)
	}
	gone, err := a.findStale(ctx, p, before.objects, objects)
	if err != nil {
		return r, err
	}
	for _, c := range gone {
		if c.Action == Kept {
			wanted = append(wanted, c.Reference)
			continue
		}
		if err := client.IgnoreNotFound(a.client.Delete(ctx, c.object())); err != nil {
			return r, fmt.Errorf("deleting %s of pool %s: %w", c.Reference, p.Name, err)
		}
	}
	r.Changes = append(r.Changes, gone...)
	// What was saved first has all of it: only now may something be forgotten.
	slices.SortFunc(both.objects, compare)
	both.objects = slices.Compact(both.objects)
	return r, inventory.save(ctx, both, record{wanted, p.Document, p.Source})
}

func (a *Applier) inventory(p Pool) inventory {
	return inventory{client: a.client, namespace: p.Namespace, pool: p.Name}
}

// write applies what the API server has just taken for different, in the order in which it
// was rendered: classes come last, when what volumes are made on is there. None waits for
// another, and nothing is ever deleted to be made anew (docs/decisions/0012).
func (a *Applier) write(ctx context.Context, objects []*unstructured.Unstructured, tried []Change) ([]Change, error) {
	var done []Change
	for i, o := range objects {
		if tried[i].Action != Unchanged {
			is := o.DeepCopy()
			if err := send(ctx, a.client, is); err != nil {
				return done, explain(o, err)
			}
			tried[i].State = State(is)
		}
		done = append(done, tried[i])
	}
	return done, nil
}

// send has the API server apply an object, which becomes what it answers.
func send(ctx context.Context, c client.Client, o *unstructured.Unstructured, more ...client.ApplyOption) error {
	return c.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), append(more, client.ForceOwnership, client.FieldOwner(fieldManager))...)
}
