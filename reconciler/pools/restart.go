package pools

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/reconciler/rollout"
	"github.com/atoll-storage/atoll/schema"
)

// DefaultRolloutDeadline is how long a restart of bricks may wait before it is reported as stuck.
const DefaultRolloutDeadline = 15 * time.Minute

// restartOutdated restarts one brick whose pod runs an older revision, if that is safe now. It
// reports whether outdated bricks remain.
func (r *Reconciler) restartOutdated(ctx context.Context, o v1alpha1.Object, document *schema.Pool,
	bricks []health.Brick,
) (restarting bool, err error) {
	status := &o.Base().Status
	force := o.GetAnnotations()[v1alpha1.RolloutWithoutHealingAnnotation] == status.LastAppliedRevision
	next := rollout.Next(bricks, force, rollout.SettledBefore(&document.Spec, time.Now()))
	switch {
	case next.Outdated == 0:
		status.RollWaitsSince = nil
		return false, nil
	case next.Brick != nil:
		status.RollWaitsSince = nil
		return true, r.restart(ctx, o, next, len(bricks))
	}
	if status.RollWaitsSince == nil {
		now := metav1.Now()
		status.RollWaitsSince = &now
	}
	message := fmt.Sprintf("%d bricks are to be restarted; the next one waits: %s", next.Outdated, next.WaitReason)
	if time.Since(status.RollWaitsSince.Time) < r.RolloutDeadline {
		markReconciling(o, metav1.ConditionUnknown, v1alpha1.ReasonRolling, message)
		return true, nil
	}
	message += fmt.Sprintf("; to continue without waiting for healing, set annotation %s: %q",
		v1alpha1.RolloutWithoutHealingAnnotation, status.LastAppliedRevision)
	markReconciling(o, metav1.ConditionFalse, v1alpha1.ReasonRollStuck, message)
	return true, nil
}

// restart deletes the pod of a brick. Its StatefulSet creates a new one of the current revision.
func (r *Reconciler) restart(ctx context.Context, o v1alpha1.Object, next rollout.Decision, bricks int) error {
	b := next.Brick
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: b.Pod}}
	// The cache may be stale. The UID protects a pod that has been restarted since.
	err := r.Delete(ctx, pod, client.Preconditions{UID: &b.UID})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("restart brick %d: %w", b.Index, err)
	}
	message := fmt.Sprintf("restarting brick %d (%s) for a change; %d of %d bricks are up to date", b.Index, b.Place,
		bricks-next.Outdated, bricks)
	r.event(o, corev1.EventTypeNormal, v1alpha1.ReasonRolling, message)
	markReconciling(o, metav1.ConditionUnknown, v1alpha1.ReasonRolling, message)
	return nil
}
