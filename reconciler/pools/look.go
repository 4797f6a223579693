package pools

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	"github.com/fluxcd/pkg/runtime/conditions"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/reconciler/rollout"
	"github.com/atoll-storage/atoll/schema"
)

// RollDeadline is after how long a restart of bricks that has to wait is called stuck.
const RollDeadline = 15 * time.Minute

// look finds out how a pool is that has been applied.
func (r *Reconciler) look(ctx context.Context, o v1alpha1.Object, document *schema.Pool) (ctrl.Result, error) {
	n, err := apply.Volumes(ctx, r.Client, o.GetName(), client.MatchingFields{apply.PoolField: o.GetName()})
	if err != nil {
		return ctrl.Result{}, err
	}
	o.Base().Status.Volumes = int64(n)
	if document.Spec.Type == schema.External {
		return r.external(ctx, o, document)
	}
	bricks, err := health.Bricks(ctx, r.Client, o.GetNamespace(), document)
	if err != nil {
		return ctrl.Result{}, err
	}
	health.Fill(&o.Base().Status, document, bricks)
	found := health.Conditions(document, bricks)
	for _, c := range found {
		conditions.Set(o, &c)
	}
	if rolling, err := r.roll(ctx, o, document, bricks); err != nil || rolling {
		return r.again(document, false), err
	}
	online := found[0]
	calm := online.Status == metav1.ConditionTrue && found[1].Status == metav1.ConditionTrue
	if online.Status != metav1.ConditionTrue {
		reconciling(o, metav1.ConditionFalse, online.Reason, online.Message)
		return r.again(document, false), nil
	}
	ready(o, fmt.Sprintf("%s; %s", online.Message, found[1].Message))
	return r.again(document, calm), nil
}

func ready(o v1alpha1.Object, message string) {
	conditions.Delete(o, meta.ReconcilingCondition)
	conditions.MarkTrue(o, meta.ReadyCondition, v1alpha1.ReasonApplied, "%s", message)
}

// reconciling says so while what is applied is not there yet, and whether the pool is ready
// meanwhile: False, or Unknown.
func reconciling(o v1alpha1.Object, ready metav1.ConditionStatus, reason, message string) {
	conditions.MarkReconciling(o, reason, "%s", message)
	conditions.Set(o, &metav1.Condition{Type: meta.ReadyCondition, Status: ready, Reason: reason, Message: message})
}

// external asks the cluster of others.
func (r *Reconciler) external(ctx context.Context, o v1alpha1.Object, document *schema.Pool) (ctrl.Result, error) {
	e := document.Spec.External
	s := gluster.Server{Hosts: e.Hosts, Port: e.Port, Volume: e.Volume, Options: e.Options, Aliases: map[string]string{}}
	for _, a := range e.HostAliases {
		for _, name := range a.Hostnames {
			s.Aliases[name] = a.IP
		}
	}
	for _, c := range health.Conditions(document, nil)[2:] {
		conditions.Set(o, &c)
	}
	report, err := s.Probe(ctx)
	if err != nil {
		conditions.MarkFalse(o, v1alpha1.BricksOnlineCondition, v1alpha1.ReasonNotReachable, "%s", err)
		reconciling(o, metav1.ConditionFalse, v1alpha1.ReasonNotReachable, err.Error())
		return r.again(document, false), nil
	}
	o.Base().Status.BricksOnline = fmt.Sprintf("%d/%d", report.Bricks-len(report.Troubles), report.Bricks)
	message := fmt.Sprintf("%s of %s is served by %s bricks", e.Volume, net.JoinHostPort(e.Hosts[0], strconv.Itoa(max(e.Port, gluster.ManagementPort))), o.Base().Status.BricksOnline)
	if len(report.Troubles) > 0 {
		conditions.MarkFalse(o, v1alpha1.BricksOnlineCondition, v1alpha1.ReasonBricksAway, "%v", report.Troubles)
	} else {
		conditions.MarkTrue(o, v1alpha1.BricksOnlineCondition, v1alpha1.ReasonAllOnline, "%s", message)
	}
	ready(o, message)
	return r.again(document, len(report.Troubles) == 0), nil
}

// roll restarts one brick whose pod runs what was rendered before, if none speaks against it.
func (r *Reconciler) roll(ctx context.Context, o v1alpha1.Object, document *schema.Pool, bricks []health.Brick) (rolling bool, err error) {
	force := o.GetAnnotations()[v1alpha1.SkipRollAnnotation] == o.Base().Status.LastAppliedRevision
	d := rollout.Next(bricks, force, rollout.SettledBefore(&document.Spec, time.Now()))
	status := &o.Base().Status
	switch {
	case d.Left == 0:
		status.RollWaitsSince = nil
		return false, nil
	case d.Brick != nil:
		status.RollWaitsSince = nil
		return true, r.restart(ctx, o, d, len(bricks))
	}
	if status.RollWaitsSince == nil {
		now := metav1.Now()
		status.RollWaitsSince = &now
	}
	message := fmt.Sprintf("%d bricks are to be restarted for what has changed; the next waits: %s", d.Left, d.Waits)
	if time.Since(status.RollWaitsSince.Time) < r.RollDeadline {
		reconciling(o, metav1.ConditionUnknown, v1alpha1.ReasonRolling, message)
		return true, nil
	}
	message += fmt.Sprintf("; annotation %s: %q goes on without waiting for healing", v1alpha1.SkipRollAnnotation, status.LastAppliedRevision)
	reconciling(o, metav1.ConditionFalse, v1alpha1.ReasonRollStuck, message)
	return true, nil
}

// restart deletes the pod of a brick: its StatefulSet makes one of what is rendered now.
func (r *Reconciler) restart(ctx context.Context, o v1alpha1.Object, d rollout.Decision, bricks int) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: o.GetNamespace(), Name: d.Brick.Pod}}
	// What was looked at may be old: a pod that has been restarted since is another one.
	err := r.Delete(ctx, pod, client.Preconditions{UID: &d.Brick.UID})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("restarting brick %d: %w", d.Brick.Index, err)
	}
	message := fmt.Sprintf("brick %d (%s) is restarted for what has changed, %d of %d have it", d.Brick.Index, d.Brick.Place, bricks-d.Left, bricks)
	r.event(o, corev1.EventTypeNormal, v1alpha1.ReasonRolling, message)
	reconciling(o, metav1.ConditionUnknown, v1alpha1.ReasonRolling, message)
	return nil
}
