package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// Pod is what a kubelet makes of a volume: a published path with the kubelet's own
// file beside it, and a container that has it mounted.
type Pod struct {
	Target    string
	Container *exec.Cmd
}

// At is the container's volume as this test can look at it.
func (p Pod) At(name string) string {
	return filepath.Join("/proc", fmt.Sprint(p.Container.Process.Pid), "root", p.Target+".container", name)
}

// StartPod publishes a volume and starts a container with it, with a propagation of
// mounts as mount(8) names it: rslave is HostToContainer, private None.
func (h *Host) StartPod(n csi.NodeClient, id, uid, propagation string, readonly bool) Pod {
	h.t.Helper()
	volume := filepath.Join(h.Path("kubelet"), "pods", uid, "volumes/kubernetes.io~csi/pv-1")
	p := Pod{Target: filepath.Join(volume, "mount")}
	h.Note(volume, id)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: h.Staging(), TargetPath: p.Target, VolumeCapability: AnyWriter(), Readonly: readonly,
	}); err != nil {
		h.t.Fatalf("publishing: %v\n%s", err, h.Logs())
	}
	p.Container = h.Container(p.Target, propagation)
	return p
}

// Unpublish takes a volume from a pod's path, and repeats that while it is being
// repaired, as a kubelet does.
func (h *Host) Unpublish(n csi.NodeClient, id, target string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target})
		if err == nil {
			return
		}
		if status.Code(err) != codes.Aborted {
			h.t.Errorf("unpublishing: %v\n%s", err, h.Logs())
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Container starts a container with what is mounted at a pod's target path.
func (h *Host) Container(target, propagation string) *exec.Cmd {
	h.t.Helper()
	if err := os.Mkdir(target+".container", 0o700); err != nil {
		h.t.Fatal(err)
	}
	c := exec.Command("unshare", "--mount", "--propagation", "slave", "sh", "-c",
		`mount --bind "$0" "$0.container" && mount --make-$1 "$0.container" && echo started && exec sleep 1000`, target, propagation)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := spawn.Start(c); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { bricks.Stop(c) })
	if _, err := out.Read(make([]byte, 10)); err != nil {
		h.t.Fatalf("the container does not start: %v", err)
	}
	return c
}

// Share makes the kubelet's folder as it is on a node: what is mounted below it is
// seen by those who take their mounts from it.
func (h *Host) Share() {
	h.t.Helper()
	at := h.Path("kubelet")
	if err := errors.Join(unix.Mount(at, at, "", unix.MS_BIND, ""), unix.Mount("", at, "", unix.MS_SHARED, "")); err != nil {
		h.t.Fatal(err)
	}
}

// Note writes the kubelet's file into the folder of a staging or target path.
func (h *Host) Note(dir, id string) {
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

// Staging is a staging path as the kubelet has them.
func (h *Host) Staging() string {
	return h.Path("kubelet/plugins/kubernetes.io/csi/" + schema.DriverName + "/1234/globalmount")
}
