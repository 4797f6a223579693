package render

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// layoutFlag sets the layout that the rebalance pod has to reach. A volfile in a ConfigMap
// changes in a running pod, up to a minute later: only the pod's template says for which
// layout it is ready.
const layoutFlag = "--layout="

// RebalanceLayout returns the layout for which the pod of a rebalance Deployment is ready, ""
// for Deployments of versions that did not say.
func RebalanceLayout(d *appsv1.Deployment) string {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, argument := range c.Command {
			if layout, found := strings.CutPrefix(argument, layoutFlag); found && c.Name == rebalanceContainer {
				return layout
			}
		}
	}
	return ""
}

// rebalanceContainer is the name of the container in the rebalance pod.
const rebalanceContainer = "rebalance"

// rebalance adds the Deployment that keeps the files of a pool distributed over its sets. It
// has one pod, never two, which is ready when all files are where the document places them.
// A document with another layout replaces the pod.
func (b *builder) rebalance() error {
	if _, several := b.bricksMap[keyRebalance]; !several {
		return nil
	}
	replicas, history, progress := int32(1), int32(3), int32(24*60*60) // a rebalance may take hours
	pods := map[string]string{LabelRebalance: b.name}
	labels := b.labels(LabelRebalance, b.name)
	delete(labels, LabelPool)
	b.add(&appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: b.meta(RebalanceName(b.name)),
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, RevisionHistoryLimit: &history, ProgressDeadlineSeconds: &progress,
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Selector: &metav1.LabelSelector{MatchLabels: pods},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: b.rebalancePod()},
		},
	})
	return nil
}

func (b *builder) rebalancePod() corev1.PodSpec {
	grace, no, optional := int64(60), false, true
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: &grace, // to finish the current file
		AutomountServiceAccountToken:  &no, EnableServiceLinks: &no,
		Tolerations: b.tolerations(brick{}),
		Volumes: []corev1.Volume{
			{Name: volumeVolfiles, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: b.serviceName() + "-bricks"},
			}}},
			memory(volumeRun), memory(volumeTmp),
			{Name: volumeKeys, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
				SecretName: AgentKeys, Optional: &optional,
			}}},
		},
		Containers: []corev1.Container{b.rebalancer()},
		SecurityContext: &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
}

// rebalancer returns the container that starts the rebalance process as its child: that
// process exits when done, and only its parent learns whether it succeeded.
func (b *builder) rebalancer() corev1.Container {
	no := false
	security := confined()
	security.AllowPrivilegeEscalation = &no
	get := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("rebalance")}}
	}
	return corev1.Container{
		Name: rebalanceContainer, Image: b.options.Images.Brick,
		Command: []string{
			"atoll-brick", "rebalance", "--namespace=" + b.namespace, "--pool=" + b.name,
			"--volfile=" + volfilesPath + "/" + keyRebalance,
			layoutFlag + strconv.FormatUint(uint64(b.volume.LayoutID()), 10),
			"--socket=" + runPath + "/rebalance.sock", "--settle=2m", "--agent-port=" + strconv.Itoa(AgentPort),
			"--keys=" + keysPath,
			fmt.Sprintf("--health=:%d", RebalancePort),
		},
		Ports: []corev1.ContainerPort{{Name: "rebalance", ContainerPort: RebalancePort, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: append(daemonMounts(),
			corev1.VolumeMount{Name: volumeVolfiles, MountPath: volfilesPath, ReadOnly: true},
			corev1.VolumeMount{Name: volumeKeys, MountPath: keysPath, ReadOnly: true}),
		Resources: requests("20m", "64Mi"), SecurityContext: security,
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: get("/readyz"), PeriodSeconds: 10, TimeoutSeconds: 6, FailureThreshold: 1,
		},
		LivenessProbe: &corev1.Probe{
			ProbeHandler: get("/healthz"), PeriodSeconds: 20, TimeoutSeconds: 10, FailureThreshold: 3,
		},
	}
}
