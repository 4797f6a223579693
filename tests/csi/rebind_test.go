package csi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestRunningPodsRemounted kills the client of a node's pool under running pods. Containers with
// mount propagation have their volume again, read-only if it was; a container without has a dead
// mount, and the volume's health says so.
func TestRunningPodsRemounted(t *testing.T) {
	t.Parallel()
	c, h, n, id := stagedVolume(t)
	propagated := h.StartPod(n, id, "propagated", "rslave", false)
	readonly := h.StartPod(n, id, "readonly", "rslave", true)
	private := h.StartPod(n, id, "private", "private", false)
	if err := os.WriteFile(propagated.At("file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the second mount covers one that covers a dead one
		pids := host.Clients(t, h.Path("mounts"))
		if len(pids) != 1 {
			t.Fatalf("clients %v", pids)
		}
		if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, p := range []host.Pod{propagated, readonly} {
			c.Eventually("a running container has its volume again", func() bool {
				text, err := os.ReadFile(p.At("file"))
				return err == nil && string(text) == "text"
			})
		}
		if err := os.WriteFile(propagated.At("file"), []byte("text"), 0o600); err != nil {
			t.Errorf("round %d: write: %v", round, err)
		}
		if err := os.WriteFile(readonly.At("file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("round %d: write to a read-only volume: %v", round, err)
		}
		c.Eventually("the path of the pod without propagation is mounted again", func() bool {
			_, err := os.ReadFile(filepath.Join(private.Target, "file"))
			return err == nil
		})
		if _, err := os.ReadFile(private.At("file")); !errors.Is(err, unix.ENOTCONN) {
			t.Errorf("round %d: without propagation: %v", round, err)
		}
	}
	degraded(t, n, id, private.Target)
	// Everything can be unmounted, however many mounts are stacked.
	for _, p := range []host.Pod{propagated, readonly, private} {
		bricks.Stop(p.Container)
		h.Unpublish(n, id, p.Target)
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	if _, err := n.NodeUnstageVolume(ctx,
		&csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: h.Staging()}); err != nil {
		t.Error(err)
	}
	left, err := mountinfo.GetMounts(mountinfo.PrefixFilter(h.Path("kubelet")))
	if err != nil || len(left) > 1 { // the directory itself is a mount
		t.Errorf("mounts remain: %v\n%v", err, left)
	}
}

// stagedVolume starts the driver with a pool of one brick, and stages a volume as a kubelet does.
func stagedVolume(t *testing.T) (c *bricks.Cluster, h *host.Host, n csi.NodeClient, id string) {
	t.Helper()
	c = bricks.Start(t, schema.Replica1, 1, nil)
	h = host.New(t, c)
	h.Share()
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	n, id = stage(h)
	return c, h, n, id
}

// stage starts the driver beside a mounter, and stages a volume as a kubelet does.
func stage(h *host.Host) (n csi.NodeClient, id string) {
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	h.StartNode()
	n = csi.NewNodeClient(h.Dial("node.sock"))
	id = h.Create(h.Dial("controller.sock"))
	h.WriteVolumeData(filepath.Dir(h.Staging()), id)
	h.Stage(n, id, h.Staging())
	return n, id
}

// degraded checks that the health of a volume says that its pod must be restarted.
func degraded(t *testing.T, n csi.NodeClient, id, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	health, err := n.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: path})
	if err != nil {
		t.Fatal(err)
	}
	s := health.GetVolumeHealth().GetHealthStatuses()
	if len(s) != 1 || s[0].GetReason() != "ClientReplaced" || !strings.Contains(s[0].GetMessage(), "delete the pod") {
		t.Errorf("the health of a pod that must be restarted: %v", s)
	}
}
