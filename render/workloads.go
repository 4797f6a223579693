package render

import (
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/schema"
)

// brick is a brick with its own StatefulSet: a data brick or the tiebreaker.
type brick struct {
	schema.Brick
	suffix string // index or tiebreakerSuffix
	set    string // index of its set; "" for the tiebreaker, which serves all sets
}

func (b *builder) workloads() error {
	if !b.native() {
		return nil
	}
	s := &b.pool.Spec
	var bricks []brick
	for i, at := range s.Bricks {
		bricks = append(bricks, brick{at, strconv.Itoa(i), strconv.Itoa(i / s.SetSize())})
	}
	if t := s.Tiebreaker; t != nil && t.Node != "" {
		bricks = append(bricks, brick{schema.Brick{Node: t.Node, Path: t.Path}, tiebreakerSuffix, ""})
	}
	for _, br := range bricks {
		if err := b.statefulSet(br); err != nil {
			return fmt.Errorf("brick %s: %w", br.suffix, err)
		}
	}
	return nil
}

// statefulSet adds the StatefulSet of one brick. Its update strategy is OnDelete, so that a
// change never restarts all bricks at once.
func (b *builder) statefulSet(br brick) error {
	labels := []string{LabelBrick, br.suffix}
	if br.set != "" {
		labels = append(labels, LabelSet, br.set)
	}
	spec, err := b.pod(br)
	if err != nil {
		return err
	}
	replicas, history := int32(1), int32(3)
	b.add(&appsv1.StatefulSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"},
		ObjectMeta: b.kept(b.workload(br.suffix), labels...),
		Spec: appsv1.StatefulSetSpec{
			ServiceName: b.serviceName(), Replicas: &replicas, RevisionHistoryLimit: &history,
			PodManagementPolicy: appsv1.ParallelPodManagement,
			UpdateStrategy:      appsv1.StatefulSetUpdateStrategy{Type: appsv1.OnDeleteStatefulSetStrategyType},
			Selector: &metav1.LabelSelector{
				MatchLabels: map[string]string{LabelPool: b.name, LabelBrick: br.suffix},
			},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{
					Labels: b.labels(labels...), // no digest of volfiles: running daemons load a changed volfile
				},
				Spec: spec,
			},
		},
	})
	return nil
}

// selinuxType is the domain of containers that work on the node's own files (container-selinux,
// container.te: spc_t is unconfined). In the default domain, container_t, a brick could neither use
// directories of the node nor set trusted attributes, whatever its capabilities.
const selinuxType = "spc_t"

// defaultPriority makes brick pods, on which all volumes of a pool depend, the last to be
// evicted.
const defaultPriority = "system-node-critical"

func (b *builder) pod(br brick) (corev1.PodSpec, error) {
	s := &b.pool.Spec
	grace, no := int64(60), false
	pod := corev1.PodSpec{
		PriorityClassName: defaultPriority, TerminationGracePeriodSeconds: &grace,
		AutomountServiceAccountToken: &no, EnableServiceLinks: &no,
		Tolerations: b.tolerations(br), Volumes: volumes(b, br),
		InitContainers: []corev1.Container{b.prepare(br), b.volfiles(br)},
		SecurityContext: &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			SELinuxOptions: &corev1.SELinuxOptions{Type: selinuxType},
		},
	}
	if s.PriorityClassName != "" {
		pod.PriorityClassName = s.PriorityClassName
	}
	b.place(&pod, br)
	server, err := b.glusterfsd(br)
	if err != nil {
		return pod, err
	}
	pod.Containers = append(pod.Containers, server)
	if br.suffix == tiebreakerSuffix {
		return pod, nil
	}
	if b.heals(br) {
		pod.Containers = append(pod.Containers, b.selfHeal())
	}
	pod.InitContainers = append(pod.InitContainers, b.agent(br), b.join(br))
	return pod, nil
}

// place binds a brick to its node. Bricks on claims, which can move, are spread over nodes.
func (b *builder) place(pod *corev1.PodSpec, br brick) {
	if br.Node != "" {
		node := corev1.NodeSelectorRequirement{
			Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{br.Node},
		}
		required := &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
			{MatchFields: []corev1.NodeSelectorRequirement{node}},
		}}
		pod.Affinity = &corev1.Affinity{
			NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: required},
		}
		return
	}
	if b.pool.Spec.SetSize() == 1 {
		return
	}
	set := &metav1.LabelSelector{MatchLabels: map[string]string{LabelPool: b.name, LabelSet: br.set}}
	apart := corev1.PodAffinityTerm{LabelSelector: set, TopologyKey: corev1.LabelHostname}
	anti := &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{apart}}
	if b.pool.Spec.AllowSameNode {
		preferred := []corev1.WeightedPodAffinityTerm{{Weight: 100, PodAffinityTerm: apart}}
		anti = &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: preferred}
	}
	pod.Affinity = &corev1.Affinity{PodAntiAffinity: anti}
	pod.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: set,
	}}
}

// tolerations returns the tolerations of a brick's pod. A brick bound to a node tolerates
// that it is not ready: it could not run on another.
func (b *builder) tolerations(br brick) []corev1.Toleration {
	var all []corev1.Toleration
	if br.Node != "" {
		for _, key := range []string{corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable} {
			all = append(all, corev1.Toleration{
				Key: key, Operator: corev1.TolerationOpExists,
				Effect: corev1.TaintEffectNoExecute,
			})
		}
	}
	for _, t := range b.pool.Spec.Tolerations {
		all = append(all, corev1.Toleration{
			Key: t.Key, Operator: corev1.TolerationOperator(t.Operator), Value: t.Value,
			Effect: corev1.TaintEffect(t.Effect), TolerationSeconds: t.TolerationSeconds,
		})
	}
	return all
}
