package block

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestKilled kills the node plugin, which no writer notices, and the client and the mounter, with
// which the volume is lost.
func TestKilled(t *testing.T) {
	t.Parallel()
	c := start(t, "a", "b")
	a := c.nodes[0]
	for name, kill := range map[string]struct {
		do    func()
		loses bool
	}{
		"node plugin": {func() { bricks.Stop(a.plugin); a.startPlugin() }, false},
		"client":      {func() { must(t, unix.Kill(a.client(), unix.SIGKILL)) }, true},
		"mounter":     {func() { bricks.Stop(a.mounter); a.startMounter() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			id := c.create("pvc-"+strings.ReplaceAll(name, " ", "-"), "", size/8)
			must(t, a.publish(id, ""))
			w := startWriter("node a", a.target(id), size/8)
			w.progress(t, 200)
			kill.do()
			if kill.loses {
				lostToKill(t, c, id, w)
			} else {
				keptDespiteKill(t, c, id, w)
			}
		})
	}
}

func keptDespiteKill(t *testing.T, c *cluster, id string, w *writer) {
	t.Helper()
	a, b := c.nodes[0], c.nodes[1]
	w.progress(t, 200)
	if _, failed := w.counts(); failed > 0 {
		t.Errorf("%d writes failed", failed)
	}
	b.refused(id)
	w.finish()
	w.check(t, a.target(id))
	must(t, a.unpublish(id))
}

func lostToKill(t *testing.T, c *cluster, id string, w *writer) {
	t.Helper()
	a, b := c.nodes[0], c.nodes[1]
	w.refusals(t, 1)
	ok, _ := w.counts()
	took := b.takeOver(id, "")
	t.Logf("node b has the volume after %s", took.Round(100*time.Millisecond))
	w.refusals(t, 20)
	w.finish()
	if now, _ := w.counts(); now != ok {
		t.Errorf("%d writes were acknowledged after the volume was lost", now-ok)
	}
	w.check(t, b.target(id))
	must(t, a.unpublish(id))
	must(t, b.unpublish(id))
	must(t, a.publish(id, "")) // node a can have it again
	w.check(t, a.target(id))
	must(t, a.unpublish(id))
}

// TestFileSystemLost kills the client, and then the mounter, under a file system. Its files fail,
// and a pod that is restarted on the same node has the volume again without unstaging, which a
// kubelet does only when no pod wants the volume.
func TestFileSystemLost(t *testing.T) {
	t.Parallel()
	c := start(t, "a")
	a := c.nodes[0]
	id := c.create("pvc-1", "xfs", size)
	must(t, a.publish(id, "xfs"))
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	for name, kill := range map[string]func(){
		"client":  func() { must(t, unix.Kill(a.client(), unix.SIGKILL)) },
		"mounter": func() { bricks.Stop(a.mounter); a.startMounter() },
	} {
		file := filepath.Join(a.target(id), name)
		must(t, writeSynced(file, []byte(name)))
		kill()
		c.bricks.Eventually("files fail", func() bool { return writeSynced(file, []byte("lost")) != nil })
		must(t, await.Call(ctx, func(ctx context.Context) error {
			_, err := a.csi.NodeUnpublishVolume(ctx,
				&csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: a.target(id)})
			return err
		}))
		must(t, await.Call(ctx, func(ctx context.Context) error {
			_, err := a.csi.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
				VolumeId: id, StagingTargetPath: a.staging(id), TargetPath: a.target(id),
				VolumeCapability: capability("xfs"),
			})
			return err
		}))
		if text, err := os.ReadFile(file); err != nil || string(text) != name {
			t.Errorf("after the end of the %s: %q, %v", name, text, err)
		}
	}
	must(t, a.unpublish(id))
}

// TestDeviceNodeStays: a pod that uses a volume raw has the node of its loop device. If the volume
// is lost while the pod has the device closed, the device is free, and another volume must not get
// it: the pod would open that volume through its node.
func TestDeviceNodeStays(t *testing.T) {
	t.Parallel()
	c := start(t, "a")
	a := c.nodes[0]
	lost, other := c.create("lost", "", size), c.create("other", "", size)
	must(t, a.publish(lost, ""))
	bricks.Stop(a.mounter)
	a.startMounter()
	left := a.target(lost)
	await.True(t, "the lost volume's device is detached", func() bool {
		number := device(t, left)
		file, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/loop/backing_file", unix.Major(number),
			unix.Minor(number)))
		return err != nil || !strings.Contains(string(file), a.h.Path("mounts"))
	})
	// Another test may get the device at any time, but a volume of this node must not.
	must(t, a.publish(other, ""))
	if device(t, left) == device(t, a.target(other)) {
		t.Error("the other volume has the device whose node a pod still has")
	}
	must(t, writeSynced(a.target(other), bytes.Repeat([]byte("other"), page)))
	if data, err := readStart(left, page); err == nil && bytes.HasPrefix(data, []byte("other")) {
		t.Errorf("the pod of the lost volume reads %q of the other one", data[:10])
	}
	// If the lost volume is published again at the same path, its new device is there.
	must(t, a.publish(lost, ""))
	must(t, writeSynced(left, bytes.Repeat([]byte("again"), page)))
	if data, err := readStart(a.target(other), page); err != nil || !bytes.HasPrefix(data, []byte("other")) {
		t.Errorf("the other volume has %q, %v", data[:10], err)
	}
	must(t, a.unpublish(other))
	must(t, a.unpublish(lost))
}

// device is the number of the device behind a node.
func device(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	return st.Rdev
}
