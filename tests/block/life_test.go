package block

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestBlockLife creates volumes with each file system and raw, formats and writes them, moves them to
// another node, grows them in use, discards space, and deletes them from the bricks.
func TestBlockLife(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"xfs", "ext4", ""} {
		t.Run(cmp.Or(kind, "raw"), func(t *testing.T) {
			t.Parallel()
			c := start(t, "a", "b")
			a, b := c.nodes[0], c.nodes[1]
			id := c.create("pvc-1", kind, size)
			must(t, a.publish(id, kind))
			must(t, a.publish(id, kind)) // a repeated call
			if err := b.publish(id, kind); status.Code(err) != codes.FailedPrecondition ||
				!strings.Contains(err.Error(), "attached to node a") {
				t.Fatalf("publish on a second node: %v", err)
			}
			if kind == "xfs" {
				listed(t, a.h)
			}
			data := bytes.Repeat([]byte("block"), 1000)
			file := func(n *node) string {
				if kind == "" {
					return n.target(id)
				}
				return filepath.Join(n.target(id), "file")
			}
			if kind != "" {
				discards(t, c.bricks, a.target(id))
			}
			must(t, writeSynced(file(a), data))
			must(t, a.unpublish(id))
			must(t, a.unpublish(id))
			must(t, b.publish(id, kind))
			if got, err := readStart(file(b), len(data)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read on the other node: %v", err)
			}
			growBlock(t, c.controller, b, id, kind, 2*size)
			if err := c.deleted(t.Context(), id); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("delete a volume in use: %v", err)
			}
			must(t, b.unpublish(id))
			must(t, c.deleted(t.Context(), id))
			place := filepath.Join(c.bricks.Pool.Bricks[0].Directory, "blocks")
			c.bricks.Eventually("the first brick has nothing of the volume", func() bool {
				left, err := exec.Command("find", place, "-type", "f").Output()
				return err == nil && len(left) == 0
			})
		})
	}
}

// discards checks that the bricks free the space of a deleted file.
func discards(t *testing.T, c *bricks.Cluster, target string) {
	t.Helper()
	used := func() int64 {
		var st unix.Stat_t
		all, _ := filepath.Glob(c.Pool.Bricks[0].Directory + "/blocks/volumes/*/*/*")
		if len(all) != 1 || unix.Stat(all[0], &st) != nil {
			t.Fatalf("the brick has %v, want one volume", all)
		}
		return st.Blocks * 512
	}
	const large = 64 << 20
	must(t, writeSynced(filepath.Join(target, "large"), bytes.Repeat([]byte{1}, large)))
	before := used()
	must(t, os.Remove(filepath.Join(target, "large")))
	c.Eventually("the brick has freed the space", func() bool {
		for _, command := range []string{"sync -f", "fstrim"} { // XFS frees the blocks of a deleted file later
			args := append(strings.Fields(command), target)
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", command, err, out)
			}
		}
		return used() < before-large*9/10
	})
}

// listed checks that 'atoll volumes list' shows which node has the volume.
func listed(t *testing.T, h *host.Host) {
	t.Helper()
	out, err := exec.Command("nsenter", "--net="+h.Network, h.Build("atoll"), "volumes", "--catalog", h.Path("catalog"),
		"list", "p", "-o", "json").Output()
	var all struct {
		Volumes []struct {
			Name, Layout, Node, FileSystem string
			Epoch                          int
			Formatted                      bool
		}
	}
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil || len(all.Volumes) != 1 {
		t.Fatalf("listed %s, %v", out, err)
	}
	if v := all.Volumes[0]; v.Name != "pvc-1" || v.Layout != "Block" || v.Node != "a" || v.FileSystem != "xfs" ||
		v.Epoch != 1 || !v.Formatted {
		t.Errorf("listed %+v", v)
	}
}

// growBlock grows a volume in use, and checks its size.
func growBlock(t *testing.T, controller csi.ControllerClient, n *node, id, kind string, size int64) {
	t.Helper()
	grown, err := controller.ControllerExpandVolume(t.Context(),
		&csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: size}})
	if err != nil || !grown.GetNodeExpansionRequired() {
		t.Fatalf("expand: %v, %v", grown, err)
	}
	if kind == "ext4" && !capable(unix.CAP_SYS_RESOURCE) {
		must(t, n.unpublish(id)) // the file system grows when the volume is staged
		must(t, n.publish(id, kind))
	}
	if _, err := n.csi.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{
		VolumeId: id, VolumePath: n.target(id), StagingTargetPath: n.staging(id),
		CapacityRange: &csi.CapacityRange{RequiredBytes: size},
	}); err != nil {
		t.Fatal(err)
	}
	stats, err := n.csi.NodeGetVolumeStats(t.Context(),
		&csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: n.target(id)})
	must(t, err)
	if total := stats.GetUsage()[0].GetTotal(); total < size*9/10 || kind == "" && total != size {
		t.Errorf("the volume has %d bytes after it was expanded to %d", total, size)
	}
}

func capable(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}

func readStart(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, n)
	_, err = f.ReadAt(data, 0)
	return data, err
}
