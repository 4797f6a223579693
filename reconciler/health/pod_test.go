package health

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/internal/agent"
)

// TestFormerBrick: while a brick is refused, its message says why, whatever its container is doing at
// the moment.
func TestFormerBrick(t *testing.T) {
	const reason = "the brick must not serve its data"
	failed := &corev1.ContainerStateTerminated{ExitCode: 1, Message: reason}
	ended := &corev1.ContainerStateTerminated{}
	running := &corev1.ContainerStateRunning{}
	for name, test := range map[string]struct {
		state, last corev1.ContainerState
		want, not   string
	}{
		"waits":           {corev1.ContainerState{Running: running}, corev1.ContainerState{}, "-c join", reason},
		"has just failed": {corev1.ContainerState{Terminated: failed}, corev1.ContainerState{}, reason, "new"},
		"tries again":     {corev1.ContainerState{Running: running}, corev1.ContainerState{Terminated: failed}, reason, "new"},
		"will try again": {
			corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			corev1.ContainerState{Terminated: failed},
			reason, "CrashLoopBackOff",
		},
		"has joined": {corev1.ContainerState{Terminated: ended}, corev1.ContainerState{Terminated: failed}, "", reason},
	} {
		b := fromPod(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "atoll-fast-0-0", Namespace: "pools"},
			Spec:       corev1.PodSpec{NodeName: "n1"},
			Status: corev1.PodStatus{
				PodIP: "10.0.0.1",
				InitContainerStatuses: []corev1.ContainerStatus{
					{Name: "join", State: test.state, LastTerminationState: test.last},
				},
			},
		}, "")
		if !strings.Contains(b.Message, test.want) || strings.Contains(b.Message, test.not) {
			t.Errorf("%s: phase %s, message %q", name, b.Phase, b.Message)
		}
	}
}

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

// TestCrashText: the message of a brick tells how often its daemons crashed, and not how long ago: that
// would be another text every second.
func TestCrashText(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 0, time.FixedZone("", 3600))
	for want, all := range map[string][]agent.Crashes{
		"": nil,
		"glusterfsd crashed once, at 2026-05-04 02:02:01 UTC (killed); it is started again each time": {
			{Daemon: "glusterfsd", Count: 1, Last: at, Reason: "killed"},
		},
		"glusterfsd crashed 4 times, last at 2026-05-04 02:02:01 UTC (aborted); it is started again each time; " +
			"self-heal crashed once, at 2026-05-04 02:02:01 UTC (killed); it is started again each time": {
			{Daemon: "glusterfsd", Count: 4, Last: at, Reason: "aborted"},
			{Daemon: "self-heal", Count: 1, Last: at, Reason: "killed"},
		},
	} {
		if got := crashText(all); got != want {
			t.Errorf("%v: %q", all, got)
		}
	}
}
