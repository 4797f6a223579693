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

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// Pod is a volume as a kubelet has it in a pod: a published path with the kubelet's file beside
// it, and a container that mounts it.
type Pod struct {
	Target    string
	Container *exec.Cmd
}

// At is the path of a file of the container's volume, as the test sees it.
func (p Pod) At(name string) string {
	return filepath.Join("/proc", fmt.Sprint(p.Container.Process.Pid), "root", p.Target+".container", name)
}

// StartPod publishes a volume and starts a container that mounts it, with a mount propagation
// as mount(8) names it: rslave is HostToContainer, private is None.
func (h *Host) StartPod(n csi.NodeClient, id, uid, propagation string, readonly bool) Pod {
	h.t.Helper()
	volume := filepath.Join(h.Path("kubelet"), "pods", uid, "volumes/kubernetes.io~csi/pv-1")
	p := Pod{Target: filepath.Join(volume, "mount")}
	h.WriteVolumeData(volume, id)
	h.Publish(n, id, h.Staging(), p.Target, readonly)
	p.Container = h.Container(p.Target, propagation)
	return p
}

// Unpublish unpublishes a volume, and repeats that while the mount is being repaired, as a
// kubelet does.
func (h *Host) Unpublish(n csi.NodeClient, id, target string) {
	h.t.Helper()
	h.call("unpublish", func(ctx context.Context) error {
		_, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target})
		return err
	})
}

// Container starts a container that mounts what is mounted at a pod's target path.
func (h *Host) Container(target, propagation string) *exec.Cmd {
	h.t.Helper()
	if err := os.Mkdir(target+".container", 0o700); err != nil {
		h.t.Fatal(err)
	}
	c := exec.Command("unshare", "--mount", "--propagation", "slave", "sh", "-c",
		`mount --bind "$0" "$0.container" && mount --make-$1 "$0.container" && echo started && exec sleep 1000`, target,
		propagation)
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
		h.t.Fatalf("start a container: %v", err)
	}
	return c
}

// Share makes the kubelet's directory a shared mount, as on a node: containers see what is
// mounted below it later.
func (h *Host) Share() {
	h.t.Helper()
	at := h.Path("kubelet")
	if err := errors.Join(unix.Mount(at, at, "", unix.MS_BIND, ""),
		unix.Mount("", at, "", unix.MS_SHARED, "")); err != nil {
		h.t.Fatal(err)
	}
}

// WriteVolumeData writes the kubelet's vol_data.json into the directory of a staging or target
// path.
func (h *Host) WriteVolumeData(dir, id string) {
	h.t.Helper()
	text, err := json.Marshal(map[string]string{
		"driverName": schema.DriverName, "volumeHandle": id,
		"specVolID": "pv-1",
	})
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

// Staging is a staging path as the kubelet chooses them.
func (h *Host) Staging() string {
	return h.Path("kubelet/plugins/kubernetes.io/csi/" + schema.DriverName + "/1234/globalmount")
}
