// Package csi runs the driver's own processes on real bricks and takes them away
// under a writer.
package csi

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestPluginDies kills the node plugin fifty times under a writer: no error, no
// stall, no lost line.
func TestPluginDies(t *testing.T) {
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
	}
	w.Finish(t)
	t.Logf("%d kills", kills)
	if w.Lines < kills || w.Longest > 2*time.Second {
		t.Errorf("%d lines, the longest took %s", w.Lines, w.Longest)
	}
	// The plugin that is there now takes away what another one has mounted.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n := csi.NewNodeClient(h.Dial("node.sock"))
	if _, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target}); err != nil {
		t.Error(err)
	}
	if _, err := n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: h.Path("kubelet/staging")}); err != nil {
		t.Error(err)
	}
}

// TestVolumesCommand keeps a deleted volume, restores it and purges it from the
// command line, on a real pool.
func TestVolumesCommand(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	program := h.Build("atoll")
	atoll := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(program, append([]string{"volumes", "--catalog", h.Path("catalog")}, args...)...).CombinedOutput()
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
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := csi.NewControllerClient(controller).DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
	var listed struct {
		Volumes  []any
		Archived []struct{ Place string }
	}
	if err := json.Unmarshal([]byte(atoll("list", "p", "-o", "json")), &listed); err != nil || len(listed.Volumes) != 0 || len(listed.Archived) != 1 {
		t.Fatalf("listed %+v, %v", listed, err)
	}
	atoll("restore", "p", listed.Archived[0].Place)
	if out := atoll("list", "p"); !strings.Contains(out, "10485760  Archive") {
		t.Errorf("restored:\n%s", out)
	}
	if _, err := csi.NewControllerClient(controller).DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(atoll("list", "p", "-o", "json")), &listed); err != nil || len(listed.Archived) != 1 {
		t.Fatalf("listed %+v, %v", listed, err)
	}
	atoll("purge", "p", listed.Archived[0].Place)
	if out := atoll("list", "p"); strings.Contains(out, "pvc-1") {
		t.Errorf("purged:\n%s", out)
	}
}

// TestAdopted makes a volume of what the Kadalu operator has left on a pool, and
// brings it to a pod by a PersistentVolume written by hand.
func TestAdopted(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	program := h.Build("atoll")
	mounted := c.Mount("before", volfile.Client)
	folder := filepath.Join(mounted, backend.Subdirectory{}.Folder("pvc-old"))
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "file"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "volumes", "--catalog", h.Path("catalog"), "adopt", "p", "pvc-old", "--size=10Mi").CombinedOutput()
	if err != nil || string(out) != "driver csi.atoll.storage, volumeHandle v1.dir.p.pvc-old, 10485760 bytes\n" {
		t.Fatalf("adopting: %v\n%s", err, out)
	}
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.StartNode()
	n := csi.NewNodeClient(h.Dial("node.sock"))
	h.Stage(n, "v1.dir.p.pvc-old", h.Staging())
	if text, err := os.ReadFile(filepath.Join(h.Staging(), "file")); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestControllerDies kills the controller and holds that another one goes on with
// what is on the pool.
func TestControllerDies(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	arguments := []string{"--endpoint", "unix://" + h.Path("controller.sock"), "--mounts", h.Path("controller-mounts")}
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.StartNode()
	controller := h.Start("controller", arguments...)
	id, _ := h.Volume(h.Dial("controller.sock"), h.Dial("node.sock"))
	bricks.Stop(controller)
	h.Start("controller", arguments...)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := csi.NewControllerClient(h.Dial("controller.sock"))
	listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil || len(listed.GetEntries()) != 1 || listed.GetEntries()[0].GetVolume().GetVolumeId() != id {
		t.Fatalf("listed %v, %v\n%s", listed, err, h.Logs())
	}
	if _, err := client.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Error(err)
	}
	for trash := filepath.Join(c.Pool.Bricks[0].Directory, ".atoll/trash"); ; time.Sleep(50 * time.Millisecond) {
		if left, err := os.ReadDir(trash); err == nil && len(left) == 0 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the trash is not emptied\n%s", h.Logs())
		}
	}
}
