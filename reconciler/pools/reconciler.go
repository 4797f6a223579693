// Package pools reconciles pools that are declared by custom resources. Every run derives all
// state from the document and the cluster, and so repairs what a missed event left undone.
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
	"github.com/fluxcd/pkg/runtime/jitter"
	"github.com/fluxcd/pkg/runtime/metrics"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/conditions"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
)

const (
	// reconcileTimeout bounds one run for one pool.
	reconcileTimeout = 2 * time.Minute
	// defaultInterval is how often a pool is reconciled without a change.
	defaultInterval = 10 * time.Minute
)

// DefaultBricksInterval is how often the agents of a pool's bricks are polled. Pools with bricks
// that are offline or being healed are polled twice as often.
const DefaultBricksInterval = 30 * time.Second

// Reconciler reconciles the pools of one kind of custom resource.
type Reconciler struct {
	client.Client
	Applier *apply.Applier
	Options render.Options       // for all pools; the namespace is that of each pool
	Events  events.EventRecorder // nil records no events
	Metrics *metrics.Recorder    // nil records none
	// New returns an empty resource of the kind.
	New func() v1alpha1.Object
	// BricksInterval is how often agents are polled. RolloutDeadline is how long a restart of bricks
	// may wait before it is reported as stuck.
	BricksInterval, RolloutDeadline time.Duration

	rendered renderCache
	applied  appliedCache
}

// ownedConditions are the conditions that no other controller writes.
var ownedConditions = []string{
	meta.ReadyCondition, meta.ReconcilingCondition, meta.StalledCondition,
	v1alpha1.BricksOnlineCondition, v1alpha1.HealedCondition, v1alpha1.QuotaEnforcedCondition,
}

// fieldManager is the field manager of the status.
const fieldManager = "atoll-reconciler"

// Reconcile reconciles one pool with its resource.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (result ctrl.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	begin := time.Now()
	o := r.New()
	if err := r.Get(ctx, req.NamespacedName, o); err != nil {
		r.forget(ctx, req)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := slices.Clone(o.GetConditions())
	patcher := newPatcher(r.Client, o)
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), reconcileTimeout/4)
		defer cancel()
		if e := patcher.patch(last, o); e != nil {
			err = errors.Join(err, e)
		}
		r.recordTransitions(o, before)
		r.recordRun(last, o, begin)
	}()
	if at, requested := o.GetAnnotations()[meta.ReconcileRequestAnnotation]; requested {
		if o.Base().Status.LastHandledReconcileAt != at {
			r.applied.forget(req) // a requested run applies everything
		}
		o.Base().Status.LastHandledReconcileAt = at
	}
	pool, err := r.rendered.parse(ctx, req, o)
	if !o.GetDeletionTimestamp().IsZero() {
		return r.remove(ctx, o, pool)
	}
	if ctx.Err() != nil {
		return ctrl.Result{}, ctx.Err()
	}
	if err != nil {
		// Retrying is useless. A changed document triggers the next run.
		o.Base().Status.ObservedGeneration = o.GetGeneration()
		markStalled(o, v1alpha1.ReasonInvalid, err)
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	r.recordSuspend(ctx, o, pool.Spec.Suspend)
	if pool.Spec.Suspend {
		return ctrl.Result{}, nil
	}
	finalize(o, pool)
	if err := patcher.finalizers(ctx, o); err != nil {
		return ctrl.Result{}, err // retried with backoff
	}
	return r.ReconcileDocument(ctx, req, o, pool, "resource")
}

// forget drops the caches and metrics of a deleted pool.
func (r *Reconciler) forget(ctx context.Context, req ctrl.Request) {
	r.applied.forget(req)
	r.rendered.forget(req)
	o := r.New()
	o.SetNamespace(req.Namespace)
	o.SetName(req.Name)
	r.deleteMetrics(ctx, o)
}

// finalize sets the finalizer of a pool whose objects are deleted with it, so that the resource
// stays until that is allowed and done.
func finalize(o v1alpha1.Object, pool *schema.Pool) {
	if pool.Spec.DeletionPolicy == "Delete" {
		controllerutil.AddFinalizer(o.(client.Object), v1alpha1.Finalizer)
	} else {
		controllerutil.RemoveFinalizer(o.(client.Object), v1alpha1.Finalizer)
	}
}

// markStalled reports an error that only a change of the document resolves.
func markStalled(o v1alpha1.Object, reason string, err error) {
	conditions.MarkStalled(o, reason, "%s", err)
	conditions.MarkFalse(o, meta.ReadyCondition, reason, "%s", err)
	conditions.Delete(o, meta.ReconcilingCondition)
}

// parse loads a resource as package loader loads a document from a file.
func parse(ctx context.Context, o v1alpha1.Object) (*schema.Pool, error) {
	version, kind := v1alpha1.GroupVersion, "StoragePool"
	if _, ok := o.(*v1alpha1.KadaluStorage); ok {
		version, kind = v1alpha1.KadaluGroupVersion, "KadaluStorage"
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": version.String(), "kind": kind, "spec": o.Base().Spec,
		"metadata": schema.Metadata{
			Name: o.GetName(), Namespace: o.GetNamespace(), Labels: o.GetLabels(),
			Annotations: documentAnnotations(o.GetAnnotations()),
		},
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
		errs = append(errs, errors.New("the resource is not a pool document"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return found.Documents[0].Pool, nil
}

// documentAnnotations leaves out the annotations that tools add to a document.
func documentAnnotations(annotations map[string]string) map[string]string {
	all := map[string]string{}
	for name, value := range annotations {
		if name != corev1.LastAppliedConfigAnnotation && name != meta.ReconcileRequestAnnotation {
			all[name] = value
		}
	}
	return all
}

// ReconcileDocument applies a valid document and reports the state of its pool in the status of o.
// source names where the document came from.
func (r *Reconciler) ReconcileDocument(ctx context.Context, req ctrl.Request, o v1alpha1.Object, document *schema.Pool,
	source string,
) (ctrl.Result, error) {
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
	rendered, err := r.rendered.get(req, document, render)
	if err != nil {
		markStalled(o, v1alpha1.ReasonInvalid, err)
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	if versions := versionsOf(ctx, r.Client, rendered); !r.applied.unchanged(req, versions) {
		if _, err := render(); err != nil {
			return ctrl.Result{}, err
		}
		done, err := r.apply(ctx, o, p)
		if err != nil {
			r.applied.forget(req)
			return ctrl.Result{}, err
		}
		r.applied.record(req, versions, rendered.revision, done)
	}
	conditions.Delete(o, meta.StalledCondition)
	status.ObservedGeneration, status.LastAppliedRevision = o.GetGeneration(), rendered.revision
	status.Inventory = apply.InventoryName(o.GetName())
	return r.observe(ctx, o, document)
}

// apply applies a pool, and reports a failure in its conditions.
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
		markStalled(o, v1alpha1.ReasonRefused, err)
		o.Base().Status.ObservedGeneration = o.GetGeneration()
		return done, reconcile.TerminalError(err)
	}
	conditions.Delete(o, meta.StalledCondition)
	conditions.MarkReconciling(o, meta.ProgressingWithRetryReason, "%s", err)
	conditions.MarkFalse(o, meta.ReadyCondition, v1alpha1.ReasonApplyFailed, "%s", err)
	return done, err // retried with backoff
}

// summary lists the changes that were written, "" for none.
func summary(done apply.Result) string {
	var all []string
	for _, c := range done.Changes {
		if c.Action != apply.Unchanged && c.Action != apply.Kept {
			all = append(all, fmt.Sprintf("%s %s", c.Reference, c.Action))
		}
	}
	return strings.Join(all, "\n")
}

// recordTransitions records an event for every condition that has changed.
func (r *Reconciler) recordTransitions(o v1alpha1.Object, before []metav1.Condition) {
	for _, c := range o.GetConditions() {
		i := slices.IndexFunc(before, func(b metav1.Condition) bool { return b.Type == c.Type })
		same := i >= 0 && before[i].Status == c.Status && before[i].Reason == c.Reason
		if same || c.Type == meta.ReconcilingCondition || c.Status == metav1.ConditionUnknown {
			continue
		}
		ready := conditions.Get(o, meta.ReadyCondition)
		if c.Type != meta.ReadyCondition && ready != nil && ready.Message == c.Message {
			continue // the event of Ready has this message
		}
		kind := corev1.EventTypeNormal
		bad := (c.Status == metav1.ConditionFalse) != (c.Type == meta.StalledCondition)
		if bad && c.Reason != v1alpha1.ReasonAdvisory {
			kind = corev1.EventTypeWarning
		}
		r.event(o, kind, c.Reason, c.Type+": "+c.Message)
	}
}

// event records an event. Pools without a resource have none.
func (r *Reconciler) event(o v1alpha1.Object, kind, reason, message string) {
	if r.Events != nil {
		r.Events.Eventf(o, nil, kind, reason, "", "%s", message)
	}
}

// requeue returns when a reconciled pool is reconciled next.
func (r *Reconciler) requeue(document *schema.Pool, healthy bool) ctrl.Result {
	interval, err := time.ParseDuration(document.Spec.Interval)
	if err != nil || interval <= 0 {
		interval = defaultInterval
	}
	switch {
	case !healthy:
		interval = min(interval, r.BricksInterval/2)
	case document.Spec.Type != schema.External:
		interval = min(interval, r.BricksInterval)
	}
	return jitter.JitteredRequeueInterval(ctrl.Result{RequeueAfter: interval})
}
