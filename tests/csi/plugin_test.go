package csi

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestPluginKilled kills the node plugin fifty times under a writer, which sees no error, no stall
// and no lost line.
func TestPluginKilled(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica3, 3, nil)
	h := host.New(t, c)
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	node := h.StartNode()
	controller, plugin := h.Dial("controller.sock"), h.Dial("node.sock")
	id, target := h.Volume(controller, plugin)
	w := bricks.StartWriter(filepath.Join(target, "lines"))
	const kills = 50
	for range kills {
		bricks.Stop(node) // SIGKILL
		node = h.StartNode()
		h.Probe(h.Dial("node.sock"))
		w.Progress(t, 1)
	}
	w.Finish(t)
	if w.Longest() > stallLimit {
		t.Errorf("a write took %s", w.Longest())
	}
	// The last plugin unmounts what the first one mounted.
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	n := csi.NewNodeClient(h.Dial("node.sock"))
	if _, err := n.NodeUnpublishVolume(ctx,
		&csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target}); err != nil {
		t.Error(err)
	}
	if _, err := n.NodeUnstageVolume(ctx,
		&csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: h.Path("kubelet/staging")}); err != nil {
		t.Error(err)
	}
}

// TestVolumesCommand archives, restores and purges a deleted volume with 'atoll volumes'.
func TestVolumesCommand(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	program := h.Build("atoll")
	atoll := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(program,
			append([]string{"volumes", "--catalog", h.Path("catalog")}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("atoll volumes %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.StartNode()
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	controller := h.Dial("controller.sock")
	id, target := h.Volume(controller, h.Dial("node.sock"))
	if err := os.WriteFile(filepath.Join(target, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	atoll("archive", "p", "pvc-1")
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	if _, err := csi.NewControllerClient(controller).DeleteVolume(ctx,
		&csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
	var listed struct {
		Volumes  []any
		Archived []struct{ Place string }
	}
	if err := json.Unmarshal([]byte(atoll("list", "p", "-o", "json")), &listed); err != nil ||
		len(listed.Volumes) != 0 || len(listed.Archived) != 1 {
		t.Fatalf("listed %+v, %v", listed, err)
	}
	atoll("restore", "p", listed.Archived[0].Place)
	if out := atoll("list", "p"); !strings.Contains(out, "10485760  Archive") {
		t.Errorf("restored:\n%s", out)
	}
	if _, err := csi.NewControllerClient(controller).DeleteVolume(ctx,
		&csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(atoll("list", "p", "-o", "json")), &listed); err != nil ||
		len(listed.Archived) != 1 {
		t.Fatalf("listed %+v, %v", listed, err)
	}
	atoll("purge", "p", listed.Archived[0].Place)
	if out := atoll("list", "p"); strings.Contains(out, "pvc-1") {
		t.Errorf("purged:\n%s", out)
	}
}

// TestAdopted adopts a directory that the Kadalu operator left on a pool as a volume, and stages it
// as for a PersistentVolume that was written by hand.
func TestAdopted(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	program := h.Build("atoll")
	mounted := c.Mount("before", volfile.Client)
	folder := filepath.Join(mounted, backend.Subdirectory{}.Place("pvc-old"))
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "volumes", "--catalog", h.Path("catalog"), "adopt", "p", "pvc-old",
		"--size=10Mi").CombinedOutput()
	if err != nil || string(out) != "driver csi.atoll.storage, volumeHandle v1.dir.p.pvc-old, 10485760 bytes\n" {
		t.Fatalf("adopt: %v\n%s", err, out)
	}
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.StartNode()
	n := csi.NewNodeClient(h.Dial("node.sock"))
	h.Stage(n, "v1.dir.p.pvc-old", h.Staging())
	if text, err := os.ReadFile(filepath.Join(h.Staging(), "file")); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestControllerKilled kills the controller. The next one lists and deletes the volume on the pool.
func TestControllerKilled(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	arguments := []string{"--endpoint", "unix://" + h.Path("controller.sock"), "--mounts", h.Path("controller-mounts")}
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.StartNode()
	controller := h.Start("controller", arguments...)
	id, _ := h.Volume(h.Dial("controller.sock"), h.Dial("node.sock"))
	bricks.Stop(controller)
	h.Start("controller", arguments...)
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	client := csi.NewControllerClient(h.Dial("controller.sock"))
	listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil || len(listed.GetEntries()) != 1 || listed.GetEntries()[0].GetVolume().GetVolumeId() != id {
		t.Fatalf("listed %v, %v\n%s", listed, err, h.Logs())
	}
	if _, err := client.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Error(err)
	}
	c.Eventually("the trash is empty", func() bool {
		left, err := os.ReadDir(filepath.Join(c.Pool.Bricks[0].Directory, ".atoll/trash"))
		return err == nil && len(left) == 0
	})
}
