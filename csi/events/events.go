// Package events tells Kubernetes what became of a pod's volume, as events of the pod.
package events

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/atoll-storage/atoll/schema"
)

// Reasons of the events.
const (
	ReasonLost     = "VolumeLost"     // somebody must restart the pod
	ReasonRestored = "VolumeRestored" // nobody need do anything
)

// Recorder writes events of the pods of one node. It needs to list pods, to get
// claims and to create and patch events.
type Recorder struct {
	client      kubernetes.Interface
	node        string
	log         logr.Logger
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

// New makes a Recorder. Close it.
func New(client kubernetes.Interface, node string, log logr.Logger) *Recorder {
	b := record.NewBroadcaster()
	b.StartRecordingToSink(&typed.EventSinkImpl{Interface: client.CoreV1().Events("")})
	source := corev1.EventSource{Component: schema.DriverName, Host: node}
	return &Recorder{client, node, log, b, b.NewRecorder(scheme.Scheme, source)}
}

// Close writes what is waiting, as far as that goes at once.
func (r *Recorder) Close() { r.broadcaster.Shutdown() }

// ClientDied tells a pod's people that the client of one of its volumes has died:
// that the volume is back, or which containers must be started again for it.
func (r *Recorder) ClientDied(ctx context.Context, podUID, persistentVolume string, err error) {
	pod, findErr := r.pod(ctx, podUID)
	if findErr != nil {
		r.log.Error(findErr, "no event for a pod", "uid", podUID, "persistentVolume", persistentVolume)
		return
	}
	if err != nil {
		r.recorder.Eventf(pod, corev1.EventTypeWarning, ReasonLost,
			"The client of volume %s has died, and it cannot be mounted again yet: %v", persistentVolume, err)
		return
	}
	lost := r.without(ctx, pod, persistentVolume)
	if len(lost) == 0 {
		r.recorder.Eventf(pod, corev1.EventTypeNormal, ReasonRestored, "The client of volume %s has died; it is mounted again.", persistentVolume)
		return
	}
	r.recorder.Eventf(pod, corev1.EventTypeWarning, ReasonLost,
		"The client of volume %s has died. It is mounted again, but %s cannot see that: delete the pod, so that it is started anew. "+
			"(Containers with mountPropagation: HostToContainer do.)", persistentVolume, strings.Join(lost, ", "))
}

// VolumeLost tells a pod's people that its block volume was lost, and what to do.
func (r *Recorder) VolumeLost(ctx context.Context, podUID, persistentVolume string, why error) {
	pod, err := r.pod(ctx, podUID)
	if err != nil {
		r.log.Error(err, "no event for a pod", "uid", podUID, "persistentVolume", persistentVolume)
		return
	}
	r.recorder.Eventf(pod, corev1.EventTypeWarning, ReasonLost,
		"Block volume %s is lost to this node and answers with I/O errors: %v. Delete the pod: it gets the volume again where it is started next.", persistentVolume, why)
}

// pod finds a pod of this node by its UID.
func (r *Recorder) pod(ctx context.Context, uid string) (*corev1.Pod, error) {
	pods, err := r.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", r.node).String()})
	if err != nil {
		return nil, fmt.Errorf("listing the pods of node %s: %w", r.node, err)
	}
	for i := range pods.Items {
		if string(pods.Items[i].UID) == uid {
			return &pods.Items[i], nil
		}
	}
	return nil, fmt.Errorf("node %s has no pod with the UID %s", r.node, uid)
}

// without names the containers of a pod that have a volume and do not see what is
// mounted later: those with mountPropagation None, the default, and those that have
// a subPath of it, which is a mount of the kubelet's own. A volume that cannot be
// told may be that of any container.
func (r *Recorder) without(ctx context.Context, pod *corev1.Pod, persistentVolume string) []string {
	var lost []string
	volumes := r.volumes(ctx, pod, persistentVolume)
	for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		for _, m := range c.VolumeMounts {
			sees := m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone && m.SubPath == "" && m.SubPathExpr == ""
			if volumes[m.Name] && !sees {
				lost = append(lost, "container "+c.Name)
				break
			}
		}
	}
	return lost
}

// volumes names the volumes of a pod that may be of a persistent volume.
func (r *Recorder) volumes(ctx context.Context, pod *corev1.Pod, persistentVolume string) map[string]bool {
	may := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		claim := ""
		switch {
		case v.PersistentVolumeClaim != nil:
			claim = v.PersistentVolumeClaim.ClaimName
		case v.Ephemeral != nil:
			claim = pod.Name + "-" + v.Name
		default:
			continue
		}
		c, err := r.client.CoreV1().PersistentVolumeClaims(pod.Namespace).Get(ctx, claim, metav1.GetOptions{})
		may[v.Name] = err != nil || c.Spec.VolumeName == persistentVolume
	}
	return may
}
