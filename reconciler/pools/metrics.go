package pools

import (
	"context"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/metrics"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/reference"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/conditions"
)

// recordedConditions are the conditions that are exported as metrics.
var recordedConditions = []string{meta.ReadyCondition, meta.ReconcilingCondition, meta.StalledCondition}

// deleted reports whether a resource is being deleted and has no finalizer of the reconciler.
func deleted(o v1alpha1.Object) bool {
	return !o.GetDeletionTimestamp().IsZero() && !controllerutil.ContainsFinalizer(o, v1alpha1.Finalizer)
}

// recordRun records the conditions of a resource and the duration of a run.
func (r *Reconciler) recordRun(ctx context.Context, o v1alpha1.Object, begin time.Time) {
	r.record(ctx, o, func(m *metrics.Recorder, ref corev1.ObjectReference) {
		for _, kind := range recordedConditions {
			c := conditions.Get(o, kind)
			switch {
			case deleted(o):
				m.DeleteCondition(ref, kind)
				continue
			case c == nil:
				c = &metav1.Condition{Type: kind, Status: metav1.ConditionUnknown}
			}
			m.RecordCondition(ref, *c)
		}
		if deleted(o) {
			m.DeleteDuration(ref)
		} else {
			m.RecordDuration(ref, begin)
		}
	})
}

// recordSuspend records whether a resource is suspended.
func (r *Reconciler) recordSuspend(ctx context.Context, o v1alpha1.Object, suspend bool) {
	r.record(ctx, o, func(m *metrics.Recorder, ref corev1.ObjectReference) { m.RecordSuspend(ref, suspend) })
}

// deleteMetrics removes the condition metrics of a deleted resource.
func (r *Reconciler) deleteMetrics(ctx context.Context, o v1alpha1.Object) {
	r.record(ctx, o, func(m *metrics.Recorder, ref corev1.ObjectReference) {
		for _, kind := range recordedConditions {
			m.DeleteCondition(ref, kind)
		}
	})
}

// record calls f if metrics are enabled.
func (r *Reconciler) record(ctx context.Context, o client.Object, f func(*metrics.Recorder, corev1.ObjectReference)) {
	if r.Metrics == nil {
		return
	}
	ref, err := reference.GetReference(r.Scheme(), o)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "no metrics of this resource", "name", o.GetName())
		return
	}
	f(r.Metrics, *ref)
}
