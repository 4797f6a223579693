package pools

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/conditions"
	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/schema"
)

// observe updates the status of an applied pool, and restarts outdated bricks.
func (r *Reconciler) observe(ctx context.Context, o v1alpha1.Object, document *schema.Pool) (ctrl.Result, error) {
	n, err := apply.CountVolumes(ctx, r.Client, o.GetName(), client.MatchingFields{apply.PoolField: o.GetName()})
	if err != nil {
		return ctrl.Result{}, err
	}
	o.Base().Status.Volumes = int64(n)
	if document.Spec.Type == schema.External {
		return r.observeExternal(ctx, o, document)
	}
	bricks, err := health.Bricks(ctx, r.Client, o.GetNamespace(), document)
	if err != nil {
		return ctrl.Result{}, err
	}
	health.Fill(&o.Base().Status, document, bricks)
	found := health.ConditionsOf(document, bricks)
	for _, c := range found.All() {
		conditions.Set(o, &c)
	}
	if restarting, err := r.restartOutdated(ctx, o, document, bricks); err != nil || restarting {
		return r.requeue(document, false), err
	}
	if online := found.BricksOnline; online.Status != metav1.ConditionTrue {
		markReconciling(o, metav1.ConditionFalse, online.Reason, online.Message)
		return r.requeue(document, false), nil
	}
	markReady(o, fmt.Sprintf("%s; %s", found.BricksOnline.Message, found.Healed.Message))
	return r.requeue(document, found.Healthy()), nil
}

func markReady(o v1alpha1.Object, message string) {
	conditions.Delete(o, meta.ReconcilingCondition)
	conditions.MarkTrue(o, meta.ReadyCondition, v1alpha1.ReasonApplied, "%s", message)
}

// markReconciling reports that the applied objects have not reached their state yet. Ready is
// False or Unknown until then.
func markReconciling(o v1alpha1.Object, ready metav1.ConditionStatus, reason, message string) {
	conditions.MarkReconciling(o, reason, "%s", message)
	conditions.Set(o, &metav1.Condition{Type: meta.ReadyCondition, Status: ready, Reason: reason, Message: message})
}

// observeExternal probes the external cluster that serves a pool.
func (r *Reconciler) observeExternal(
	ctx context.Context, o v1alpha1.Object, document *schema.Pool,
) (ctrl.Result, error) {
	e := document.Spec.External
	s := gluster.Server{
		Hosts: e.Hosts, Port: e.Port, Volume: e.Volume, Options: e.Options,
		Aliases: map[string]string{},
	}
	for _, a := range e.HostAliases {
		for _, name := range a.Hostnames {
			s.Aliases[name] = a.IP
		}
	}
	quota := health.ConditionsOf(document, nil).QuotaEnforced
	conditions.Set(o, &quota)
	report, err := s.Probe(ctx)
	if err != nil {
		conditions.MarkFalse(o, v1alpha1.BricksOnlineCondition, v1alpha1.ReasonNotReachable, "%s", err)
		markReconciling(o, metav1.ConditionFalse, v1alpha1.ReasonNotReachable, err.Error())
		return r.requeue(document, false), nil
	}
	status := &o.Base().Status
	status.BricksOnline = fmt.Sprintf("%d/%d", report.Bricks-len(report.Problems), report.Bricks)
	address := net.JoinHostPort(e.Hosts[0], strconv.Itoa(max(e.Port, gluster.ManagementPort)))
	message := fmt.Sprintf("volume %s of %s has %s bricks online", e.Volume, address, status.BricksOnline)
	if len(report.Problems) > 0 {
		conditions.MarkFalse(o, v1alpha1.BricksOnlineCondition, v1alpha1.ReasonBricksAway, "%v", report.Problems)
	} else {
		conditions.MarkTrue(o, v1alpha1.BricksOnlineCondition, v1alpha1.ReasonAllOnline, "%s", message)
	}
	markReady(o, message)
	return r.requeue(document, len(report.Problems) == 0), nil
}
