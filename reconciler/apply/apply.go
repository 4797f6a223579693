// Package apply makes a cluster have what pools are rendered to: what differs is applied
// by server-side apply, what is not rendered any more is taken away, and what has data, or
// is in use, is not.
package apply

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	poller := polling.NewStatusPoller(c, c.RESTMapper(), polling.Options{})
	return &Applier{client: c, manager: ssa.NewResourceManager(c, poller, ssa.Owner{Field: fieldManager, Group: "atoll.storage"})}, nil
}

// Pool is one that is rendered.
type Pool struct {
	Namespace, Name string
	Objects         []render.Object
	Document        *schema.Pool
	Options         render.Options // that it was rendered with
	Source          string         // where the document is from, such as "command"
}

// Render renders a document, which schema.Load has found valid.
func Render(document *schema.Pool, o render.Options) (Pool, error) {
	objects, err := render.Render(document, o)
	return Pool{
		Namespace: cmp.Or(document.Metadata.Namespace, o.Namespace, schema.DefaultNamespace), Name: document.Metadata.Name,
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
	Fields []string `json:"fields,omitempty"`
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
	if r.Changes, err = a.try(ctx, p, before, objects); err != nil {
		return r, err
	}
	gone, err := a.gone(ctx, p, before.objects, objects)
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
	tried, err := a.try(ctx, p, before, objects)
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
	gone, err := a.gone(ctx, p, before.objects, objects)
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

// try has the API server take every object without keeping it. All that it refuses is
// told of at once.
func (a *Applier) try(ctx context.Context, p Pool, before record, objects []*unstructured.Unstructured) ([]Change, error) {
	var all []Change
	var errs []error
	for _, o := range objects {
		c := Change{Reference: referenceTo(o), Action: Created}
		known := slices.ContainsFunc(before.objects, func(r Reference) bool { return same(r, c.Reference) })
		created, err := false, error(nil)
		if !known { // most likely it is not there
			created, err = a.creates(ctx, o)
		}
		if err == nil && !created {
			c, err = a.differs(ctx, p, o)
		}
		if err != nil {
			errs = append(errs, err)
		}
		all = append(all, c)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%w:\n%w", ErrRefused, errors.Join(errs...))
	}
	return all, nil
}

// creates tells whether an object is not there, and the API server would take it.
func (a *Applier) creates(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	would := o.DeepCopy()
	err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(would), client.DryRunAll, client.ForceOwnership, client.FieldOwner(fieldManager))
	if err != nil {
		return false, explain(o, err)
	}
	return would.GetResourceVersion() == "", nil
}

// differs compares an object that may be there with what it would become.
func (a *Applier) differs(ctx context.Context, p Pool, o *unstructured.Unstructured) (Change, error) {
	if err := a.others(ctx, p, o); err != nil {
		return Change{}, err
	}
	entry, is, merged, err := a.manager.Diff(ctx, o.DeepCopy(), ssa.DefaultDiffOptions())
	if err != nil {
		return Change{}, explain(o, err)
	}
	return Change{Reference: referenceTo(o), Action: Action(entry.Action), Fields: fields(is, merged)}, nil
}

// fields lists where an object differs from what it would become.
func fields(is, merged *unstructured.Unstructured) []string {
	if is == nil || merged == nil {
		return nil
	}
	return slices.DeleteFunc(plan.Differences("", is.Object, merged.Object), func(path string) bool {
		return slices.Contains([]string{"metadata.generation", "metadata.resourceVersion", "metadata.managedFields"}, path)
	})
}

// others refuses to take over an object that is there and is not this pool's. Names of
// classes are the cluster's: a pool of the same name in another namespace has the same.
func (a *Applier) others(ctx context.Context, p Pool, o *unstructured.Unstructured) error {
	if o.GetNamespace() != "" {
		return nil // it is in the pool's namespace, under the pool's name
	}
	is := referenceTo(o).object()
	err := a.client.Get(ctx, client.ObjectKeyFromObject(is), is)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", referenceTo(o), err)
	}
	pool, namespace := is.GetLabels()[render.LabelPool], is.GetLabels()[render.LabelNamespace]
	switch {
	case pool == p.Name && namespace == p.Namespace:
		return nil
	case pool == "":
		return fmt.Errorf("%s is there and is no pool's; give the class another name, or delete that one", referenceTo(o))
	}
	return fmt.Errorf("%s belongs to the pool %s of namespace %s; give the pool, or the class, another name", referenceTo(o), pool, namespace)
}

// explain says what to do about an object that is refused.
func explain(o *unstructured.Unstructured, err error) error {
	hint := ""
	switch {
	case apierrors.IsNotFound(err) && o.GetNamespace() != "":
		hint = "; make the namespace: kubectl create namespace " + o.GetNamespace()
	case apierrors.IsInvalid(err) && o.GetKind() == "StorageClass":
		hint = "; a class cannot change: give the new one another name, and keep the old one while volumes use it"
	case apierrors.IsInvalid(err) && o.GetKind() == "StatefulSet":
		hint = "; a brick is never deleted to be made anew"
	case apierrors.IsForbidden(err):
		hint = "; the user of this kubeconfig may not do that"
	}
	return fmt.Errorf("%s %s: %w%s", o.GetKind(), o.GetName(), err, hint)
}

// gone lists what the inventory has and the pool has no more, and what becomes of it.
func (a *Applier) gone(ctx context.Context, p Pool, before []Reference, objects []*unstructured.Unstructured) ([]Change, error) {
	var all []Change
	for _, r := range before {
		if slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return same(r, referenceTo(o)) }) {
			continue
		}
		is := r.object()
		err := a.client.Get(ctx, client.ObjectKeyFromObject(is), is)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("looking at %s, which pool %s has no more: %w", r, p.Name, err)
		}
		reason, err := a.keeps(ctx, p, is)
		if err != nil {
			return all, err
		}
		c := Change{Reference: r, Action: Deleted, Reason: reason}
		if reason != "" {
			c.Action = Kept
		}
		all = append(all, c)
	}
	return all, nil
}

// same tells whether two name one object; its version may have changed.
func same(a, b Reference) bool {
	group := func(version string) string {
		g, _, grouped := strings.Cut(version, "/")
		if !grouped {
			return ""
		}
		return g
	}
	return a.Kind == b.Kind && a.Namespace == b.Namespace && a.Name == b.Name && group(a.APIVersion) == group(b.APIVersion)
}

// keeps says why an object stays though its pool has it no more; "" when it may go.
func (a *Applier) keeps(ctx context.Context, p Pool, o *unstructured.Unstructured) (string, error) {
	if o.GetLabels()[render.LabelPool] != p.Name {
		return "it is labelled as somebody else's by now", nil
	}
	switch o.GetKind() {
	case "StatefulSet":
		return "it serves a brick: delete it by hand when the brick has no files any more", nil
	case "PersistentVolumeClaim":
		return "it has a brick's data: delete it by hand", nil
	case "StorageClass":
		var volumes corev1.PersistentVolumeList
		if err := a.client.List(ctx, &volumes); err != nil {
			return "", fmt.Errorf("looking whether volumes use StorageClass %s: %w", o.GetName(), err)
		}
		n := 0
		for _, v := range volumes.Items {
			if v.Spec.StorageClassName == o.GetName() {
				n++
			}
		}
		if n > 0 {
			return fmt.Sprintf("%d volumes use it", n), nil
		}
	}
	return "", nil
}

func references(objects []*unstructured.Unstructured) []Reference {
	var all []Reference
	for _, o := range objects {
		all = append(all, referenceTo(o))
	}
	return all
}

// write applies what the API server has just taken for different, in the order in which it
// was rendered: classes come last, when what volumes are made on is there. None waits for
// another, and nothing is ever deleted to be made anew (docs/decisions/0012).
func (a *Applier) write(ctx context.Context, objects []*unstructured.Unstructured, tried []Change) ([]Change, error) {
	var done []Change
	for i, o := range objects {
		if tried[i].Action != Unchanged {
			is := o.DeepCopy()
			if err := a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(is), client.ForceOwnership, client.FieldOwner(fieldManager)); err != nil {
				return done, explain(o, err)
			}
			tried[i].State = State(is)
		}
		done = append(done, tried[i])
	}
	return done, nil
}

func convertAll(objects []render.Object) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for _, o := range objects {
		u, err := convert(o)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// convert gives the fields of an object as they are sent: without what only a cluster
// sets.
func convert(o render.Object) (*unstructured.Unstructured, error) {
	fields, err := render.Fields(o)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(text); err != nil { // whole numbers as integers
		return nil, fmt.Errorf("reading %s as an object: %w", o.GetName(), err)
	}
	return u, nil
}
