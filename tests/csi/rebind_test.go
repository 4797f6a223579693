package csi

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestRunningPodsComeBack kills the client of a node's pool under running pods. A
// container that asked for propagation has its volume back by itself, a read-only
// one read-only; one that did not has a dead mount, and the volume's health says so.
func TestRunningPodsComeBack(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	h.Share()
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	h.StartNode()
	n := csi.NewNodeClient(h.Dial("node.sock"))
	id := h.Create(h.Dial("controller.sock"))
	h.Note(filepath.Dir(h.Staging()), id)
	h.Stage(n, id, h.Staging())
	asked := h.StartPod(n, id, "asked", "rslave", false)
	readonly := h.StartPod(n, id, "readonly", "rslave", true)
	silent := h.StartPod(n, id, "silent", "private", false)
	if err := os.WriteFile(asked.At("file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // also over a mount that covers a dead one already
		pids := host.Clients(t, h.Path("mounts"))
		if len(pids) != 1 {
			t.Fatalf("clients %v", pids)
		}
		if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for _, p := range []host.Pod{asked, readonly} {
			c.Eventually(30*time.Second, "a running container has its volume back", func() bool {
				text, err := os.ReadFile(p.At("file"))
				return err == nil && string(text) == "text"
			})
		}
		if err := os.WriteFile(asked.At("file"), []byte("text"), 0o600); err != nil {
			t.Errorf("round %d: writing: %v", round, err)
		}
		if err := os.WriteFile(readonly.At("file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("round %d: writing to what was published read-only: %v", round, err)
		}
		c.Eventually(20*time.Second, "the path of the pod without propagation is mounted anew", func() bool {
			_, err := os.ReadFile(filepath.Join(silent.Target, "file"))
			return err == nil
		})
		if _, err := os.ReadFile(silent.At("file")); !errors.Is(err, unix.ENOTCONN) {
			t.Errorf("round %d: without propagation: %v", round, err)
		}
	}
	degraded(t, n, id, silent.Target)
	// All goes as it came, whatever is stacked.
	for _, p := range []host.Pod{asked, readonly, silent} {
		bricks.Stop(p.Container)
		h.Unpublish(n, id, p.Target)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: h.Staging()}); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(text), h.Path("kubelet")+"/") {
		t.Errorf("mounts are left: %v\n%s", err, text)
	}
}

func degraded(t *testing.T, n csi.NodeClient, id, path string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	health, err := n.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: path})
	if err != nil {
		t.Fatal(err)
	}
	s := health.GetVolumeHealth().GetHealthStatuses()
	if len(s) != 1 || s[0].GetReason() != "ClientReplaced" || !strings.Contains(s[0].GetMessage(), "delete the pod") {
		t.Errorf("health of a pod that needs to be restarted: %v", s)
	}
}
