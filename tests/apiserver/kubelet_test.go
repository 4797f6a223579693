package apiserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/config"
	"k8s.io/kubernetes/pkg/kubelet/pluginmanager"

	"github.com/atoll-storage/atoll/csi/events"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// registrations receives the calls of the kubelet's plugin manager about a driver. The cluster
// tests run a whole kubelet, which also mounts volumes.
type registrations struct {
	endpoint chan string
	removed  chan string
}

func (r registrations) ValidatePlugin(_ context.Context, name, endpoint string, versions []string) error {
	if name != schema.DriverName || !slices.Contains(versions, "1.0.0") {
		return fmt.Errorf("driver %s at %s with versions %v", name, endpoint, versions)
	}
	return nil
}

func (r registrations) RegisterPlugin(_ context.Context, _, endpoint string, _ []string, _ *time.Duration) error {
	r.endpoint <- endpoint
	return nil
}

func (r registrations) DeRegisterPlugin(_ context.Context, name, _ string) { r.removed <- name }

// TestRegistration checks that the kubelet's plugin manager registers the driver, also after
// it was killed, and deregisters it when it exits.
func TestRegistration(t *testing.T) {
	h := host.Bare(t)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	r := registrations{make(chan string, 10), make(chan string, 10)}
	m := pluginmanager.NewPluginManager(h.Path("kubelet/plugins_registry"), record.NewFakeRecorder(100))
	m.AddHandler("CSIPlugin", r)
	go m.Run(t.Context(), config.NewSourcesReady(func(sets.Set[string]) bool { return true }), stop)
	expect := func(from chan string, want string) {
		t.Helper()
		select {
		case got := <-from:
			if got != want {
				t.Errorf("the kubelet got %q, want %q", got, want)
			}
		case <-time.After(await.Limit):
			t.Fatalf("the kubelet did not get %s\n%s", want, h.Logs())
		}
	}
	process := h.StartNode("--register", h.Path("node.sock"))
	expect(r.endpoint, h.Path("node.sock"))
	bricks.Stop(process) // SIGKILL: the socket stays, and the next process replaces it
	process = h.StartNode("--register", h.Path("node.sock"))
	expect(r.removed, schema.DriverName)
	expect(r.endpoint, h.Path("node.sock"))
	if err := process.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	expect(r.removed, schema.DriverName)
}

// TestEvents stops and kills the client of a running pod's volume and checks the events of the pod.
func TestEvents(t *testing.T) {
	config := start(t)
	c := connect(t, config)
	b := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, b)
	h.Share()
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	h.StartNode("--events", "--kubeconfig", writeKubeconfig(t, config))
	n := csi.NewNodeClient(h.Dial("node.sock"))
	id := h.Create(h.Dial("controller.sock"))
	h.WriteVolumeData(filepath.Dir(h.Staging()), id)
	h.Stage(n, id, h.Staging())
	pods := map[string]*corev1.Pod{}
	for _, name := range []string{"propagated", "private"} {
		pods[name] = c.createPod(name, name == "propagated")
		h.StartPod(n, id, string(pods[name].UID), "rslave", false)
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		for _, pid := range host.Clients(t, h.Path("mounts")) {
			if err := unix.Kill(pid, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	signal(unix.SIGSTOP)
	for _, pod := range pods {
		c.waitEvent(pod, corev1.EventTypeWarning, events.ReasonHangs, "pod of DaemonSet atoll-csi-mounter")
	}
	signal(unix.SIGCONT)
	for _, pod := range pods {
		c.waitEvent(pod, corev1.EventTypeNormal, events.ReasonAnswers, "no longer hangs")
	}
	signal(unix.SIGKILL)
	c.waitEvent(pods["propagated"], corev1.EventTypeNormal, events.ReasonRestored, "the volume is mounted again")
	c.waitEvent(pods["private"], corev1.EventTypeWarning, events.ReasonLost,
		"not visible in container second, which has to start again. The pod: delete it")
	bricks.Stop(b.Bricks[0])
	signal(unix.SIGKILL)
	c.waitEvent(pods["propagated"], corev1.EventTypeWarning, events.ReasonLost,
		"cannot be mounted again yet: the pool cannot be reached: pool p")
	b.StartBrick(0)
	for _, pod := range pods {
		target := h.Path("kubelet/pods/" + string(pod.UID) + "/volumes/kubernetes.io~csi/pv-1/mount")
		eventually(t, "the volume is mounted again", func() bool { _, err := os.ReadDir(target); return err == nil })
		h.Unpublish(n, id, target)
	}
}

// createPod creates a pod on the node that has the volume pv-1 in its second container, with or
// without propagation of later mounts.
func (c *cluster) createPod(name string, propagated bool) *corev1.Pod {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), await.Limit)
	defer cancel()
	claim := corev1.PersistentVolumeClaimSpec{
		VolumeName: "pv-1", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
		Resources: corev1.VolumeResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Mi")},
		},
	}
	if _, err := c.typed.CoreV1().PersistentVolumeClaims("default").Create(ctx,
		&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       claim,
		}, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
	propagation := corev1.MountPropagationNone
	if propagated {
		propagation = corev1.MountPropagationHostToContainer
	}
	pod, err := c.typed.CoreV1().Pods("default").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
			NodeName: "host", // the node's name in package host
			Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
			}}},
			Containers: []corev1.Container{
				{Name: "first", Image: "i"},
				{Name: "second", Image: "i", VolumeMounts: []corev1.VolumeMount{{
					Name: "v", MountPath: "/v",
					MountPropagation: &propagation,
				}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return pod
}

// waitEvent waits for an event of a pod.
func (c *cluster) waitEvent(pod *corev1.Pod, kind, reason, says string) {
	c.t.Helper()
	eventually(c.t, "the pod "+pod.Name+" has the event "+reason+": "+says, func() bool {
		all, err := c.typed.CoreV1().Events(pod.Namespace).List(c.t.Context(), metav1.ListOptions{})
		if err != nil {
			return false
		}
		for _, e := range all.Items {
			if e.InvolvedObject.UID == pod.UID && e.Type == kind && e.Reason == reason &&
				strings.Contains(e.Message, says) {
				return true
			}
		}
		return false
	})
}
