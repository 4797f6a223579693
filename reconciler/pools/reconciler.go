// Package pools makes clusters have the pools that custom resources ask for. Every run
// derives all from the document and the cluster: what was missed before is found now.
package pools

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	helper "github.com/fluxcd/pkg/runtime/controller"
	"github.com/fluxcd/pkg/runtime/jitter"
	"github.com/fluxcd/pkg/runtime/patch"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
)

// Times.
const (
	// runLimit is how long one run for one pool may take.
	runLimit = 2 * time.Minute
	// defaultInterval is how often a pool is looked at though nothing has been seen to change.
	defaultInterval = 10 * time.Minute
)

// Attentive is how often bricks are looked at: their agents are asked, and tell nobody by
// themselves. Bricks that are not all online and healed are looked at twice as often.
const Attentive = 30 * time.Second

// Reconciler is that of one kind of custom resource.
type Reconciler struct {
	client.Client
	Applier *apply.Applier
	Options render.Options       // of all pools; the namespace is each pool's own
	Events  events.EventRecorder // nil makes no events
	Metrics helper.Metrics
	// New makes an empty resource of the kind.
	New func() v1alpha1.Object
	// Attentive is how often bricks are looked at, and RollDeadline after how long a restart
	// of bricks that has to wait is called stuck.
	Attentive, RollDeadline time.Duration

	drawings renderCache
	settled  appliedCache
}

// owned are the conditions that only a Reconciler writes.
var owned = []string{
	meta.ReadyCondition, meta.ReconcilingCondition, meta.StalledCondition,
	v1alpha1.BricksOnlineCondition, v1alpha1.HealedCondition, v1alpha1.QuotaEnforcedCondition,
}

// fieldManager is who writes the status.
const fieldManager = "atoll-reconciler"

// Reconcile makes the cluster have one pool.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	begin := time.Now()
	o := r.New()
	if err := r.Get(ctx, req.NamespacedName, o); err != nil {
		r.forget(ctx, req)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := slices.Clone(o.GetConditions())
	patcher := patch.NewSerialPatcher(o, r.Client)
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), runLimit/4)
		defer cancel()
		if e := patcher.Patch(last, o, patch.WithOwnedConditions{Conditions: owned}, patch.WithFieldOwner(fieldManager)); e != nil {
			err = errors.Join(err, client.IgnoreNotFound(e))
		}
		r.tell(o, before)
		r.Metrics.RecordReadiness(last, o)
		r.Metrics.RecordReconciling(last, o)
		r.Metrics.RecordStalled(last, o)
		r.Metrics.RecordDuration(last, o, begin)
	}()
	if at, asked := o.GetAnnotations()[meta.ReconcileRequestAnnotation]; asked {
		if o.Base().Status.LastHandledReconcileAt != at {
			r.settled.forget(req) // who asks wants to see it done
		}
		o.Base().Status.LastHandledReconcileAt = at
	}
	pool, err := r.drawings.read(ctx, req, o)
	if !o.GetDeletionTimestamp().IsZero() {
		return r.remove(ctx, o, pool)
	}
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	if err != nil {
		// Nothing but another document helps: that comes by itself.
		o.Base().Status.ObservedGeneration = o.GetGeneration()
		stall(o, v1alpha1.ReasonInvalid, err)
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	r.Metrics.RecordSuspend(ctx, o, pool.Spec.Suspend)
	if pool.Spec.Suspend {
		return ctrl.Result{}, nil
	}
	finalize(o, pool)
	return r.Follow(ctx, req, o, pool, "resource")
}

// forget forgets a pool that has gone, and what was measured of it.
func (r *Reconciler) forget(ctx context.Context, req ctrl.Request) {
	r.settled.forget(req)
	r.drawings.forget(req)
	o := r.New()
	o.SetNamespace(req.Namespace)
	o.SetName(req.Name)
	for _, kind := range []string{meta.ReadyCondition, meta.ReconcilingCondition, meta.StalledCondition} {
		r.Metrics.DeleteCondition(ctx, o, kind)
	}
}

// finalize keeps a pool that is to take its objects with it until it may.
func finalize(o v1alpha1.Object, pool *schema.Pool) {
	if pool.Spec.DeletionPolicy == "Delete" {
		controllerutil.AddFinalizer(o.(client.Object), v1alpha1.Finalizer)
	} else {
		controllerutil.RemoveFinalizer(o.(client.Object), v1alpha1.Finalizer)
	}
}

// stall says that only another document helps.
func stall(o v1alpha1.Object, reason string, err error) {
	conditions.MarkStalled(o, reason, "%s", err)
	conditions.MarkFalse(o, meta.ReadyCondition, reason, "%s", err)
	conditions.Delete(o, meta.ReconcilingCondition)
}

// read has package schema read a resource, as it reads documents of files.
func read(ctx context.Context, o v1alpha1.Object) (*schema.Pool, error) {
	version, kind := v1alpha1.GroupVersion, "StoragePool"
	if _, is := o.(*v1alpha1.KadaluStorage); is {
		version, kind = v1alpha1.KadaluGroupVersion, "KadaluStorage"
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": version.String(), "kind": kind, "spec": o.Base().Spec,
		"metadata": schema.Metadata{Name: o.GetName(), Namespace: o.GetNamespace(), Labels: o.GetLabels(), Annotations: described(o.GetAnnotations())},
	})
	if err != nil {
		return nil, err
	}
	found, err := loader.Load(ctx, loader.Options{Stdin: strings.NewReader(string(text))}, "-")
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, d := range found.Diagnostics {
		if d.Severity == schema.SeverityError {
			errs = append(errs, fmt.Errorf("%s: %s", d.Path, d.Text()))
		}
	}
	if len(found.Documents) != 1 && len(errs) == 0 {
		errs = append(errs, errors.New("this is not the document of a pool"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return found.Documents[0].Pool, nil
}

// described leaves out what tools have noted of whole documents.
func described(annotations map[string]string) map[string]string {
	all := map[string]string{}
	for name, value := range annotations {
		if name != corev1.LastAppliedConfigAnnotation && name != meta.ReconcileRequestAnnotation {
			all[name] = value
		}
	}
	return all
}

// Follow applies a valid document, and tells in the status of o how its pool is. source
// names where the document is from.
func (r *Reconciler) Follow(ctx context.Context, req ctrl.Request, o v1alpha1.Object, document *schema.Pool, source string) (ctrl.Result, error) {
	status := &o.Base().Status
	options := r.Options
	options.Namespace = o.GetNamespace()
	var p apply.Pool
	render := func() (_ apply.Pool, err error) {
		if p.Objects == nil {
			p, err = apply.Render(document, options)
			p.Source = source
		}
		return p, err
	}
	drawn, err := r.drawings.draw(req, document, render)
	if err != nil {
		stall(o, v1alpha1.ReasonInvalid, err)
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	if now := fingerprint(ctx, r.Client, drawn); !r.settled.is(req, now) {
		if _, err := render(); err != nil {
			return ctrl.Result{}, err
		}
		done, err := r.apply(ctx, o, p)
		if err != nil {
			r.settled.forget(req)
			return ctrl.Result{}, err
		}
		r.settled.note(req, now, drawn.revision, done)
	}
	conditions.Delete(o, meta.StalledCondition)
	status.ObservedGeneration, status.LastAppliedRevision, status.Inventory = o.GetGeneration(), drawn.revision, apply.InventoryName(o.GetName())
	return r.look(ctx, o, document)
}

// apply applies, and says in conditions why it did not come to that.
func (r *Reconciler) apply(ctx context.Context, o v1alpha1.Object, p apply.Pool) (apply.Result, error) {
	done, err := r.Applier.Apply(ctx, p)
	text := summary(done)
	if text != "" {
		r.event(o, corev1.EventTypeNormal, v1alpha1.ReasonApplied, text)
	}
	switch {
	case err == nil:
		return done, nil
	case errors.Is(err, apply.ErrDangerous):
		stall(o, v1alpha1.ReasonRefused, err)
		o.Base().Status.ObservedGeneration = o.GetGeneration()
		return done, reconcile.TerminalError(err)
	}
	conditions.Delete(o, meta.StalledCondition)
	conditions.MarkReconciling(o, meta.ProgressingWithRetryReason, "%s", err)
	conditions.MarkFalse(o, meta.ReadyCondition, v1alpha1.ReasonApplyFailed, "%s", err)
	return done, err // tried again, later and later
}

// summary says what was written; nothing for nothing.
func summary(done apply.Result) string {
	var all []string
	for _, c := range done.Changes {
		if c.Action != apply.Unchanged && c.Action != apply.Kept {
			all = append(all, fmt.Sprintf("%s %s", c.Reference, c.Action))
		}
	}
	return strings.Join(all, "\n")
}

// tell makes an event of every condition that has changed.
func (r *Reconciler) tell(o v1alpha1.Object, before []metav1.Condition) {
	for _, c := range o.GetConditions() {
		i := slices.IndexFunc(before, func(b metav1.Condition) bool { return b.Type == c.Type })
		if c.Type == meta.ReconcilingCondition || c.Status == metav1.ConditionUnknown || i >= 0 && before[i].Status == c.Status && before[i].Reason == c.Reason {
			continue
		}
		if ready := conditions.Get(o, meta.ReadyCondition); c.Type != meta.ReadyCondition && ready != nil && ready.Message == c.Message {
			continue // it has been said
		}
		kind := corev1.EventTypeNormal
		if (c.Status == metav1.ConditionFalse) != (c.Type == meta.StalledCondition) && c.Reason != v1alpha1.ReasonAdvisory {
			kind = corev1.EventTypeWarning
		}
		r.event(o, kind, c.Reason, c.Type+": "+c.Message)
	}
}

// event makes one, where pools are resources that can have events.
func (r *Reconciler) event(o v1alpha1.Object, kind, reason, message string) {
	if r.Events != nil {
		r.Events.Eventf(o, nil, kind, reason, "", "%s", message)
	}
}

// again says when a pool that needs nothing now is looked at next.
func (r *Reconciler) again(document *schema.Pool, calm bool) ctrl.Result {
	interval, err := time.ParseDuration(document.Spec.Interval)
	if err != nil || interval <= 0 {
		interval = defaultInterval
	}
	switch {
	case !calm:
		interval = min(interval, r.Attentive/2)
	case document.Spec.Type != schema.External:
		interval = min(interval, r.Attentive)
	}
	return jitter.JitteredRequeueInterval(ctrl.Result{RequeueAfter: interval})
}
