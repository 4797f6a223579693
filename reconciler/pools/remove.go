package pools

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/schema"
)

// withoutAsking, in apply.AllowAnnotation, lets a pool go whose bricks cannot be asked
// whether they have files.
const withoutAsking = "bricks-unknown"

// remove takes away a pool whose resource is being deleted, when nothing is on it any more.
// A pool that does not say deletionPolicy: Delete stays as it is, without its resource.
func (r *Reconciler) remove(ctx context.Context, o v1alpha1.Object, pool *schema.Pool) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(o.(client.Object), v1alpha1.Finalizer) {
		return ctrl.Result{}, nil
	}
	if pool == nil { // the document is invalid by now: what was applied counts
		applied, err := r.Applier.Applied(ctx, o.GetNamespace(), "")
		if err != nil {
			return ctrl.Result{}, err
		}
		if i := slices.IndexFunc(applied, func(p *schema.Pool) bool { return p.Metadata.Name == o.GetName() }); i >= 0 {
			pool = applied[i]
		}
	}
	if pool != nil {
		reason, err := InUse(ctx, r.Client, o.GetNamespace(), pool)
		if err != nil {
			return ctrl.Result{}, err
		}
		if reason != "" {
			message := "the pool is to be deleted and keeps running: " + reason
			conditions.MarkReconciling(o, v1alpha1.ReasonDeleting, "%s", message)
			conditions.MarkFalse(o, meta.ReadyCondition, v1alpha1.ReasonVolumesInUse, "%s", message)
			return ctrl.Result{RequeueAfter: r.Attentive / 2}, nil
		}
	}
	done, err := r.Applier.Remove(ctx, o.GetNamespace(), o.GetName())
	if err != nil {
		return ctrl.Result{}, err
	}
	r.event(o, corev1.EventTypeNormal, v1alpha1.ReasonDeleting, "the pool has no volumes and goes:\n"+summary(done))
	controllerutil.RemoveFinalizer(o.(client.Object), v1alpha1.Finalizer)
	return ctrl.Result{}, nil
}

// InUse says why a pool cannot go; "" when it can.
func InUse(ctx context.Context, c client.Reader, namespace string, pool *schema.Pool) (string, error) {
	n, err := apply.Volumes(ctx, c, pool.Metadata.Name)
	if err != nil {
		return "", err
	}
	if n > 0 {
		return fmt.Sprintf("%d persistent volumes are on it; it goes when the last of them has gone", n), nil
	}
	if pool.Spec.Type == schema.External || strings.Contains(pool.Metadata.Annotations[apply.AllowAnnotation], withoutAsking) {
		return "", nil
	}
	bricks, err := health.Bricks(ctx, c, namespace, pool)
	if err != nil {
		return "", err
	}
	for _, b := range bricks {
		switch {
		case b.AgentReachable && !b.Empty:
			return fmt.Sprintf("brick %d (%s) has files that belong to no persistent volume; remove them through a mount, or set deletionPolicy: Orphan", b.Index, b.Place), nil
		case !b.AgentReachable:
			return fmt.Sprintf("brick %d (%s) cannot be asked whether it has files (annotation %s: %s goes on without): %s", b.Index, b.Place, apply.AllowAnnotation, withoutAsking, b.Message), nil
		}
	}
	return "", nil
}
