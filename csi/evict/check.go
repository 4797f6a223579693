package evict

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/events"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// isEnding reports whether a pod ends or has ended.
func isEnding(pod *corev1.Pod) bool {
	phase := pod.Status.Phase
	return pod.DeletionTimestamp != nil || phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// isStatic reports whether a pod is the mirror of one that a kubelet runs from a file: evicting it ends
// only the mirror.
func isStatic(pod *corev1.Pod) bool {
	_, is := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return is
}

// evicts reports whether pods that have lost this volume are to be evicted, and if not, when to ask
// again; 0 is never. It trusts the event no further than it has to: the pod runs on the node that wrote
// it, and uses a volume of this driver.
func (e *Evictor) evicts(ctx context.Context, pod *corev1.Pod, l events.Loss) (bool, time.Duration, error) {
	v, err := e.Client.CoreV1().PersistentVolumes().Get(ctx, l.Volume, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, fmt.Errorf("get the volume: %w", err)
	}
	if l.Node != pod.Spec.NodeName || v.Spec.CSI == nil || v.Spec.CSI.Driver != schema.DriverName || !uses(pod, v) {
		e.Log.Info("ignoring an event: its pod does not use this volume on this node", "namespace", l.Namespace,
			"pod", l.Pod, "node", l.Node, "persistentVolume", l.Volume)
		return false, 0, nil
	}
	switch schema.Recovery(v.Spec.CSI.VolumeAttributes[schema.ParameterRecovery]) {
	case schema.RecoveryTell:
		return false, 0, nil
	case schema.RecoveryEvict:
		return true, 0, nil
	}
	id, err := volumeid.Parse(v.Spec.CSI.VolumeHandle)
	if err != nil {
		return false, 0, nil // no volume of this driver has such a handle, so none was lost
	}
	p, err := e.Catalog.Pool(id.Pool)
	if errors.Is(err, catalog.ErrNoPool) {
		return true, 0, nil // its document was deleted; its volumes exist
	}
	if err != nil {
		return false, 0, err
	}
	if p.Recovery == schema.RecoveryTell {
		return false, e.Limits.AskAgain, nil // the pool may change
	}
	return true, 0, nil
}

// uses reports whether a pod has a volume with the claim that a PersistentVolume is bound to.
func uses(pod *corev1.Pod, v *corev1.PersistentVolume) bool {
	claim := v.Spec.ClaimRef
	if claim == nil || claim.Namespace != pod.Namespace {
		return false
	}
	for _, one := range pod.Spec.Volumes {
		if one.PersistentVolumeClaim != nil && one.PersistentVolumeClaim.ClaimName == claim.Name ||
			one.Ephemeral != nil && pod.Name+"-"+one.Name == claim.Name {
			return true
		}
	}
	return false
}
