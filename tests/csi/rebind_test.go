package csi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/bricks"
)

// pod is what a kubelet makes of a volume: a published path with the kubelet's own
// file beside it, and a container that has it mounted.
type pod struct {
	target    string
	container *exec.Cmd
}

// at is the container's volume as this test can look at it.
func (p pod) at(name string) string {
	return filepath.Join("/proc", fmt.Sprint(p.container.Process.Pid), "root", p.target+".container", name)
}

// startPod publishes a volume and starts a container with it, with a propagation of
// mounts as mount(8) names it: rslave is HostToContainer, private None.
func (h *host) startPod(n csi.NodeClient, id, uid, propagation string, readonly bool) pod {
	h.t.Helper()
	volume := filepath.Join(h.path("kubelet"), "pods", uid, "volumes/kubernetes.io~csi/pv-1")
	p := pod{target: filepath.Join(volume, "mount")}
	h.note(volume, id)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: h.staging(), TargetPath: p.target, VolumeCapability: anyWriter(), Readonly: readonly,
	}); err != nil {
		h.t.Fatalf("publishing: %v\n%s", err, h.logs())
	}
	if err := os.Mkdir(p.target+".container", 0o700); err != nil {
		h.t.Fatal(err)
	}
	p.container = exec.Command("unshare", "--mount", "--propagation", "slave", "sh", "-c",
		`mount --bind "$0" "$0.container" && mount --make-$1 "$0.container" && echo started && exec sleep 1000`, p.target, propagation)
	p.container.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.container.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := spawn.Start(p.container); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { bricks.Stop(p.container) })
	if _, err := out.Read(make([]byte, 10)); err != nil {
		h.t.Fatalf("the container does not start: %v", err)
	}
	return p
}

// note writes the kubelet's file into the folder of a staging or target path.
func (h *host) note(dir, id string) {
	h.t.Helper()
	text, err := json.Marshal(map[string]string{"driverName": schema.DriverName, "volumeHandle": id, "specVolID": "pv-1"})
	if err != nil {
		h.t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vol_data.json"), text, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) staging() string {
	return h.path("kubelet/plugins/kubernetes.io/csi/" + schema.DriverName + "/1234/globalmount")
}

// TestRunningPodsComeBack kills the client of a node's pool under running pods. A
// container that asked for propagation has its volume back by itself, a read-only
// one read-only; one that did not has a dead mount, and the volume's health says so.
func TestRunningPodsComeBack(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := newHost(t, c)
	// As on a node, where all that is mounted below the kubelet's root is shared.
	if err := errors.Join(unix.Mount(h.path("kubelet"), h.path("kubelet"), "", unix.MS_BIND, ""),
		unix.Mount("", h.path("kubelet"), "", unix.MS_SHARED, "")); err != nil {
		t.Fatal(err)
	}
	h.start("mounter", "--socket", h.path("mounter.sock"))
	h.start("controller", "--endpoint", "unix://"+h.path("controller.sock"), "--mounts", h.path("controller-mounts"))
	h.startNode()
	n := csi.NewNodeClient(h.dial("node.sock"))
	id := h.create(h.dial("controller.sock"))
	h.note(filepath.Dir(h.staging()), id)
	h.stage(n, id, h.staging())
	asked := h.startPod(n, id, "asked", "rslave", false)
	readonly := h.startPod(n, id, "readonly", "rslave", true)
	silent := h.startPod(n, id, "silent", "private", false)
	if err := os.WriteFile(asked.at("file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // also over a mount that covers a dead one already
		pids := clients(t, h.path("mounts"))
		if len(pids) != 1 {
			t.Fatalf("clients %v", pids)
		}
		if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, p := range []pod{asked, readonly} {
			c.Eventually(30*time.Second, "a running container has its volume back", func() bool {
				text, err := os.ReadFile(p.at("file"))
				return err == nil && string(text) == "text"
			})
		}
		if err := os.WriteFile(asked.at("file"), []byte("text"), 0o600); err != nil {
			t.Errorf("round %d: writing: %v", round, err)
		}
		if err := os.WriteFile(readonly.at("file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("round %d: writing to what was published read-only: %v", round, err)
		}
		c.Eventually(20*time.Second, "the path of the pod without propagation is mounted anew", func() bool {
			_, err := os.ReadFile(filepath.Join(silent.target, "file"))
			return err == nil
		})
		if _, err := os.ReadFile(silent.at("file")); !errors.Is(err, unix.ENOTCONN) {
			t.Errorf("round %d: without propagation: %v", round, err)
		}
	}
	h.degraded(n, id, silent.target)
	// All goes as it came, whatever is stacked.
	for _, p := range []pod{asked, readonly, silent} {
		bricks.Stop(p.container)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if _, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: p.target}); err != nil {
			t.Errorf("unpublishing: %v\n%s", err, h.logs())
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: h.staging()}); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(text), h.path("kubelet")+"/") {
		t.Errorf("mounts are left: %v\n%s", err, text)
	}
}

func (h *host) degraded(n csi.NodeClient, id, path string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	health, err := n.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: path})
	if err != nil {
		h.t.Fatal(err)
	}
	s := health.GetVolumeHealth().GetHealthStatuses()
	if len(s) != 1 || s[0].GetReason() != "ClientReplaced" || !strings.Contains(s[0].GetMessage(), "delete the pod") {
		h.t.Errorf("health of a pod that needs to be restarted: %v", s)
	}
}
