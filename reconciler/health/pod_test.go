package health

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestPodThatTheKubeletHolds: a pod whose folder is not there never gets an address, and
// nothing in its status says why. After a while the brick says where that stands.
func TestPodThatTheKubeletHolds(t *testing.T) {
	for _, c := range []struct {
		ago  time.Duration
		says string
	}{{time.Second, ""}, {time.Minute, "kubectl describe pod -n pools atoll-fast-0-0"}} {
		since := metav1.NewTime(time.Now().Add(-c.ago))
		b := fromPod(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "atoll-fast-0-0", Namespace: "pools"},
			Spec:       corev1.PodSpec{NodeName: "n1"},
			Status: corev1.PodStatus{Phase: corev1.PodPending, StartTime: &since, InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "prepare", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}}},
			}},
		}, "")
		if !strings.Contains(b.Message, c.says) || (c.says == "") != (b.Message == "") {
			t.Errorf("after %s: %q, want %q", c.ago, b.Message, c.says)
		}
	}
}
