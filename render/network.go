package render

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/atoll-storage/atoll/schema"
)

// service adds the headless Service that gives bricks their DNS names. It publishes bricks
// that are not ready: otherwise bricks that wait for each other could not connect.
func (b *builder) service() error {
	if !b.native() {
		return nil
	}
	b.add(&corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: b.kept(b.serviceName()),
		Spec: corev1.ServiceSpec{
			ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true,
			Selector: map[string]string{LabelPool: b.name},
			Ports: []corev1.ServicePort{{
				Name: "brick", Port: BrickPort, TargetPort: intstr.FromString("brick"), Protocol: corev1.ProtocolTCP,
			}},
		},
	})
	return nil
}

// disruptionBudgets adds PodDisruptionBudgets, so that evictions never break the quorum of a
// set: they may evict one brick of a set at a time, and none if the pool would stop. A pod is
// ready only while its brick is complete, so none is evicted that others are healed from.
// minAvailable counts available pods; maxUnavailable would not count a pod that is being
// replaced (docs/decisions/0003).
func (b *builder) disruptionBudgets() error {
	s := &b.pool.Spec
	if !b.native() {
		return nil
	}
	size := s.SetSize()
	sets := len(s.Bricks) / size
	for set := range sets {
		selector := metav1.LabelSelector{MatchLabels: map[string]string{LabelPool: b.name, LabelSet: strconv.Itoa(set)}}
		switch {
		case s.Type == schema.Replica2 && s.Tiebreaker != nil:
			// The thin arbiter votes in every set, and a pod may have only one budget, so
			// all pods of the pool share one.
			all := len(s.Bricks)
			if s.Tiebreaker.Node != "" {
				all++
			}
			b.budget(b.serviceName(), all-1, metav1.LabelSelector{MatchLabels: map[string]string{LabelPool: b.name}})
			return nil
		case s.Type == schema.Replica2:
			// A pair without tiebreaker is writable while its first brick is online.
			selector.MatchLabels[LabelBrick] = strconv.Itoa(set * size)
			b.budget(b.workload("set-"+strconv.Itoa(set)), 1, selector)
		case s.Type == schema.Replica1:
			b.budget(b.workload("set-"+strconv.Itoa(set)), 1, selector)
		default:
			b.budget(b.workload("set-"+strconv.Itoa(set)), size-1, selector)
		}
	}
	return nil
}

func (b *builder) budget(name string, least int, selector metav1.LabelSelector) {
	available := intstr.FromInt32(int32(least))
	// A brick that does not serve, or lacks data, may be evicted while the others are enough.
	unhealthy := policyv1.IfHealthyBudget
	if b.pool.Spec.Type == schema.Replica1 { // there are no others, and the data is away already
		unhealthy = policyv1.AlwaysAllow
	}
	b.add(&policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: b.meta(name),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: &available, Selector: &selector, UnhealthyPodEvictionPolicy: &unhealthy,
		},
	})
}
