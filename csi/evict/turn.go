package evict

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/atoll-storage/atoll/csi/events"
)

// Limits are how fast pods are evicted.
type Limits struct {
	// FirstRetry is the pause after a refused eviction, such as by a budget. It doubles with each
	// further one, up to LongestRetry.
	FirstRetry, LongestRetry time.Duration
	// Settle is how long nothing else of a workload is evicted after an eviction, however soon its new
	// pod is ready, and Turn how long it waits for the others to become ready: they may be unready
	// for another reason, for ever.
	Settle, Turn time.Duration
	// Young is the age up to which a pod that loses its volume makes its workload wait: as long as
	// Settle, and twice as long each time, up to LongestPause.
	Young, LongestPause time.Duration
	// AskAgain is how often a pool that evicts nobody is asked whether that has changed.
	AskAgain time.Duration
}

// DefaultLimits leave a workload whose volumes are lost again and again alone for ten minutes.
var DefaultLimits = Limits{
	FirstRetry: 5 * time.Second, LongestRetry: time.Minute, Settle: 10 * time.Second, Turn: 5 * time.Minute,
	Young: 10 * time.Minute, LongestPause: 10 * time.Minute, AskAgain: 2 * time.Minute,
}

// lookAgain is how often the pods of a workload are looked at while one has to become ready.
const lookAgain = 2 * time.Second

// workloads are the controllers of evicted pods.
type workloads struct {
	limits Limits
	all    map[types.UID]*workload
}

type workload struct {
	last  time.Time // eviction
	pause time.Duration
}

// evicted notes that a pod was evicted that had this age when it lost its volume.
func (w *workloads) evicted(owner types.UID, age time.Duration) {
	now := time.Now()
	for uid, one := range w.all { // those that nothing depends on any more
		if now.Sub(one.last) > w.limits.Turn+w.limits.Young+w.limits.LongestPause {
			delete(w.all, uid)
		}
	}
	before, pause := w.all[owner], time.Duration(0)
	if before != nil && age < w.limits.Young {
		pause = min(max(2*before.pause, w.limits.Settle), w.limits.LongestPause)
	}
	if w.all == nil {
		w.all = map[types.UID]*workload{}
	}
	w.all[owner] = &workload{last: now, pause: pause}
}

// pause is how long a workload has to be left alone yet, and turn whether its other pods have to be
// ready before the next one is evicted.
func (w *workloads) pause(owner types.UID) (pause time.Duration, turn bool) {
	one := w.all[owner]
	if one == nil {
		return 0, false
	}
	since := time.Since(one.last)
	return max(0, max(one.pause, w.limits.Settle)-since), since < w.limits.Turn
}

// wait returns how long a pod has to wait for its workload, 0 if it is its turn.
func (e *Evictor) wait(ctx context.Context, pod *corev1.Pod, owner *metav1.OwnerReference) (time.Duration, error) {
	pause, turn := e.workloads.pause(owner.UID)
	if pause > 0 || !turn {
		return pause, nil
	}
	all, err := e.Client.CoreV1().Pods(pod.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, fmt.Errorf("list the pods of %s %s: %w", owner.Kind, owner.Name, err)
	}
	lost := map[types.UID]bool{}
	for _, o := range e.losses.List() {
		if event, is := o.(*corev1.Event); is {
			if l, is := events.LossOf(event); is {
				lost[l.UID] = true
			}
		}
	}
	for i := range all.Items {
		other := &all.Items[i]
		by := metav1.GetControllerOf(other)
		if by == nil || by.UID != owner.UID || other.UID == pod.UID {
			continue
		}
		if other.DeletionTimestamp != nil || !isReady(other) && !lost[other.UID] && !isEnding(other) {
			return min(lookAgain, max(e.workloads.limits.Settle, time.Millisecond)), nil
		}
	}
	return 0, nil
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
