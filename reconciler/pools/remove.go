package pools

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fluxcd/pkg/apis/meta"
	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/conditions"
	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/schema"
)

// allowBricksUnknown, in apply.AllowAnnotation, allows deleting a pool whose agents cannot be
// asked whether the bricks are empty.
const allowBricksUnknown = "bricks-unknown"

// remove deletes the objects of a pool whose resource is being deleted, once the pool is empty.
// The objects of a pool without deletionPolicy: Delete stay when the resource is deleted.
func (r *Reconciler) remove(ctx context.Context, o v1alpha1.Object, pool *schema.Pool) (ctrl.Result, error) {
	if !controllerutil.ContainsFinalizer(o.(client.Object), v1alpha1.Finalizer) {
		return ctrl.Result{}, nil
	}
	if pool == nil { // the document is invalid; use the one that was applied last
		applied, err := r.Applier.AppliedDocuments(ctx, o.GetNamespace(), "")
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
			message := "the pool is being deleted and keeps running until it is empty: " + reason
			conditions.MarkReconciling(o, v1alpha1.ReasonDeleting, "%s", message)
			conditions.MarkFalse(o, meta.ReadyCondition, v1alpha1.ReasonVolumesInUse, "%s", message)
			return ctrl.Result{RequeueAfter: r.BricksInterval / 2}, nil
		}
	}
	done, err := r.Applier.Remove(ctx, o.GetNamespace(), o.GetName())
	if err != nil {
		return ctrl.Result{}, err
	}
	r.event(o, corev1.EventTypeNormal, v1alpha1.ReasonDeleting, "the pool is empty and was deleted:\n"+summary(done))
	controllerutil.RemoveFinalizer(o.(client.Object), v1alpha1.Finalizer)
	return ctrl.Result{}, nil
}

// InUse returns why a pool cannot be deleted, "" when it can.
func InUse(ctx context.Context, c client.Reader, namespace string, pool *schema.Pool) (string, error) {
	n, err := apply.CountVolumes(ctx, c, pool.Metadata.Name)
	if err != nil {
		return "", err
	}
	if n > 0 {
		return fmt.Sprintf("%d persistent volumes use it; it is deleted after the last of them", n), nil
	}
	allowed := pool.Metadata.Annotations[apply.AllowAnnotation]
	if pool.Spec.Type == schema.External || strings.Contains(allowed, allowBricksUnknown) {
		return "", nil
	}
	bricks, err := health.Bricks(ctx, c, namespace, pool)
	if err != nil {
		return "", err
	}
	for _, b := range bricks {
		switch {
		case b.AgentReachable && !b.Empty:
			return fmt.Sprintf("brick %d (%s) has files that belong to no persistent volume; "+
				"remove them through a mount, or set deletionPolicy: Orphan", b.Index, b.Place), nil
		case !b.AgentReachable:
			return fmt.Sprintf("brick %d (%s) may have files, its agent is unreachable: %s; "+
				"to delete the pool anyway, set annotation %s: %s",
				b.Index, b.Place, b.Message, apply.AllowAnnotation, allowBricksUnknown), nil
		}
	}
	return "", nil
}
