package events

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/atoll-storage/atoll/schema"
)

// Annotations of a ReasonLost event for the controller, which evicts the pod.
const (
	// annotationVolume is the PersistentVolume that was lost.
	annotationVolume = "atoll.storage/persistent-volume"
	// annotationContainers are the containers that see the volume again once they have started
	// again, separated by commas; "" means that only a new pod does.
	annotationContainers = "atoll.storage/containers"
	// annotationSince is when it was lost, or mounted again, in RFC 3339: the event may be written later.
	annotationSince = "atoll.storage/since"
)

// Loss is what a ReasonLost event of a node says: a pod has to start again to see a volume.
type Loss struct {
	Namespace, Pod string
	UID            types.UID
	Volume         string // the PersistentVolume
	Node           string
	Containers     string // see annotationContainers
	// Since is when the volume was lost, or mounted again.
	Since time.Time
}

// LossOf reads an event; false if it is of another kind, or asks for nothing.
func LossOf(e *corev1.Event) (Loss, bool) {
	volume := e.Annotations[annotationVolume]
	since, err := time.Parse(time.RFC3339, e.Annotations[annotationSince])
	if err != nil || e.Reason != ReasonLost || e.Source.Component != schema.DriverName || volume == "" ||
		e.InvolvedObject.Kind != "Pod" || e.InvolvedObject.UID == "" {
		return Loss{}, false
	}
	return Loss{
		Namespace: e.InvolvedObject.Namespace, Pod: e.InvolvedObject.Name, UID: e.InvolvedObject.UID, Volume: volume,
		Node: e.Source.Host, Containers: e.Annotations[annotationContainers], Since: since.UTC(),
	}, true
}

// Blind reports whether containers of the pod have not started since the volume was lost.
func (l Loss) Blind(pod *corev1.Pod) bool {
	if l.Containers == "" {
		return true
	}
	named := map[string]bool{}
	for name := range strings.SplitSeq(l.Containers, ",") {
		named[name] = true
	}
	all := append(append([]corev1.ContainerStatus{}, pod.Status.InitContainerStatuses...),
		pod.Status.ContainerStatuses...)
	for _, c := range all {
		// A container that does not run sees the volume when it starts.
		if named[c.Name] && c.State.Running != nil && !c.State.Running.StartedAt.After(l.Since) {
			return true
		}
	}
	return false
}
