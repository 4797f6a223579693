package health

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPodNotStartedByKubelet: a pod whose host path is missing never gets an address, and its
// status has no reason. After a while the brick's message names the command that shows it.
func TestPodNotStartedByKubelet(t *testing.T) {
	for _, c := range []struct {
		age  time.Duration
		want string
	}{{time.Second, ""}, {time.Minute, "kubectl describe pod -n pools atoll-fast-0-0"}} {
		since := metav1.NewTime(time.Now().Add(-c.age))
		b := fromPod(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "atoll-fast-0-0", Namespace: "pools"},
			Spec:       corev1.PodSpec{NodeName: "n1"},
			Status: corev1.PodStatus{
				Phase: corev1.PodPending, StartTime: &since,
				InitContainerStatuses: []corev1.ContainerStatus{{
					Name:  "prepare",
					State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}},
				}},
			},
		}, "")
		if !strings.Contains(b.Message, c.want) || (c.want == "") != (b.Message == "") {
			t.Errorf("after %s: message %q, want %q", c.age, b.Message, c.want)
		}
	}
}
