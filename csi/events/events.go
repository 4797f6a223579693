// Package events writes events of pods about what happened to their volumes.
package events

import (
	"context"
	"fmt"
	"strings"
	"time"

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
	ReasonLost     = "VolumeLost"     // the pod must start again
	ReasonRestored = "VolumeRestored" // no action needed
	ReasonHangs    = "VolumeHangs"    // wait, or move the pods of the pool to other nodes
	ReasonAnswers  = "VolumeAnswers"  // no action needed
	// Of the controller, which evicts pods with ReasonLost.
	ReasonEvicting  = "PodEvicting"       // it is about to
	ReasonEvicted   = "PodEvicted"        // it has; on the object that creates a new pod
	ReasonPostponed = "EvictionPostponed" // a disruption budget does not allow it yet
)

// Recorder writes events of the pods of one node. It needs the permissions to list pods, get
// claims, and create and patch events.
type Recorder struct {
	client      kubernetes.Interface
	node        string
	log         logr.Logger
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
}

// New returns a Recorder. Close it.
func New(client kubernetes.Interface, node string, log logr.Logger) *Recorder {
	b := record.NewBroadcaster()
	b.StartRecordingToSink(&typed.EventSinkImpl{Interface: client.CoreV1().Events("")})
	source := corev1.EventSource{Component: schema.DriverName, Host: node}
	return &Recorder{client, node, log, b, b.NewRecorder(scheme.Scheme, source)}
}

// Close writes pending events, as far as that does not block.
func (r *Recorder) Close() { r.broadcaster.Shutdown() }

// ClientDied writes an event that the client of one of a pod's volumes has died, and that the volume
// is mounted again since a time, or why not: see repair.Events.
func (r *Recorder) ClientDied(
	ctx context.Context, podUID, persistentVolume string, since time.Time, why error,
) error {
	pod, err := r.pod(ctx, podUID)
	if err != nil || pod == nil {
		return err
	}
	if why != nil {
		r.recorder.Eventf(pod, corev1.EventTypeWarning, ReasonLost,
			"The client of volume %s died, and the volume cannot be mounted again yet: %v", persistentVolume, why)
		return nil
	}
	blind := r.blindContainers(ctx, pod, persistentVolume)
	if len(blind) == 0 {
		r.recorder.Eventf(pod, corev1.EventTypeNormal, ReasonRestored,
			"The client of volume %s died; the volume is mounted again.", persistentVolume)
		return nil
	}
	asks := map[string]string{
		annotationVolume: persistentVolume, annotationContainers: strings.Join(blind, ","),
		annotationSince: since.UTC().Format(time.RFC3339),
	}
	r.recorder.AnnotatedEventf(pod, asks, corev1.EventTypeWarning, ReasonLost,
		"The client of volume %s died. The volume is mounted again, but not visible in container %s, which has to start "+
			"again. The pod: %s. (Containers with mountPropagation: HostToContainer see the new mount.)", persistentVolume,
		strings.Join(blind, ", "), remedy(pod))
	return nil
}

// ClientHangs writes an event that the client of one of a pod's volumes runs and does not answer, or that
// this has ended: see repair.Events.
func (r *Recorder) ClientHangs(
	ctx context.Context, podUID, persistentVolume string, since time.Time, ended bool,
) error {
	pod, err := r.pod(ctx, podUID)
	if err != nil || pod == nil {
		return err
	}
	if ended {
		r.recorder.Eventf(pod, corev1.EventTypeNormal, ReasonAnswers,
			"The client of volume %s no longer hangs; it did since %s.", persistentVolume,
			since.UTC().Format(time.RFC3339))
		return nil
	}
	r.recorder.Eventf(pod, corev1.EventTypeWarning, ReasonHangs,
		"The client of volume %s runs and does not answer, so reads and writes of the volume wait. They go on when it "+
			"does. If that takes minutes: move the pods of this pool to other nodes, then delete the pod of DaemonSet "+
			"atoll-csi-mounter on node %s.", persistentVolume, r.node)
	return nil
}

// remedy says who makes a pod start again.
func remedy(pod *corev1.Pod) string {
	if metav1.GetControllerOf(pod) == nil {
		return "delete it, as it has no controller that would create it again, and create it again"
	}
	return "it is evicted; if its pool or class has recovery: Tell, delete it"
}

// VolumeLost writes an event that a pod's block volume was lost, and what to do: see repair.Events.
func (r *Recorder) VolumeLost(
	ctx context.Context, podUID, persistentVolume string, since time.Time, why error,
) error {
	pod, err := r.pod(ctx, podUID)
	if err != nil || pod == nil {
		return err
	}
	asks := map[string]string{
		annotationVolume: persistentVolume, annotationSince: since.UTC().Format(time.RFC3339),
	}
	r.recorder.AnnotatedEventf(pod, asks, corev1.EventTypeWarning, ReasonLost,
		"This node lost block volume %s, which returns I/O errors now: %v. A new pod gets the volume again. "+
			"The pod: %s.", persistentVolume, why, remedy(pod))
	return nil
}

// pod finds a pod of this node by its UID, nil if it no longer exists.
func (r *Recorder) pod(ctx context.Context, uid string) (*corev1.Pod, error) {
	pods, err := r.client.CoreV1().Pods("").List(ctx,
		metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", r.node).String()})
	if err != nil {
		return nil, fmt.Errorf("list the pods of node %s: %w", r.node, err)
	}
	for i := range pods.Items {
		if string(pods.Items[i].UID) == uid {
			return &pods.Items[i], nil
		}
	}
	return nil, nil
}

// blindContainers lists the containers of a pod that use a volume and do not see later mounts:
// those with mountPropagation None, the default, and those with a subPath, which is a mount by
// the kubelet.
func (r *Recorder) blindContainers(ctx context.Context, pod *corev1.Pod, persistentVolume string) []string {
	var blind []string
	volumes := r.volumes(ctx, pod, persistentVolume)
	for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
		for _, m := range c.VolumeMounts {
			sees := m.MountPropagation != nil && *m.MountPropagation != corev1.MountPropagationNone &&
				m.SubPath == "" && m.SubPathExpr == ""
			if volumes[m.Name] && !sees {
				blind = append(blind, c.Name)
				break
			}
		}
	}
	return blind
}

// volumes returns the names of a pod's volumes that may be of a PersistentVolume. A volume
// whose claim cannot be read may be.
func (r *Recorder) volumes(ctx context.Context, pod *corev1.Pod, persistentVolume string) map[string]bool {
	names := map[string]bool{}
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
		names[v.Name] = err != nil || c.Spec.VolumeName == persistentVolume
	}
	return names
}
