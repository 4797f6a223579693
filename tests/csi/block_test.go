package csi

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/bricks"
	"github.com/atoll-storage/atoll/tests/host"
)

// blockNode is a node of a cluster whose pool serves blocks.
type blockNode struct {
	t       *testing.T
	h       *host.Host
	name    string
	mounter *exec.Cmd
	node    csi.NodeClient
}

// blockHosts starts a controller and nodes.
func blockHosts(t *testing.T, c *bricks.Cluster, names ...string) (csi.ControllerClient, []*blockNode) {
	t.Helper()
	var nodes []*blockNode
	var controller csi.ControllerClient
	for i, name := range names {
		h := host.Bare(t)
		c.Catalog(h.Catalog(), schema.Subdirectory, schema.Block)
		n := &blockNode{t: t, h: h, name: name}
		n.startMounter()
		h.Start("node", "--endpoint", "unix://"+h.Path("node.sock"), "--mounter", h.Path("mounter.sock"), "--node-id", name, "--kubelet-root", h.Path("kubelet"))
		n.node = csi.NewNodeClient(h.Dial("node.sock"))
		nodes = append(nodes, n)
		if i == 0 {
			h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
			controller = csi.NewControllerClient(h.Dial("controller.sock"))
		}
	}
	return controller, nodes
}

func (n *blockNode) startMounter() {
	n.mounter = n.h.Start("mounter", "--socket", n.h.Path("mounter.sock"), "--node-id", n.name)
}

// one is a capability of a block volume: of a file system, or "" for raw use.
func one(fileSystem string) *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	if fileSystem == "" {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fileSystem}}
	}
	return c
}

func createBlock(t *testing.T, c csi.ControllerClient, name, fileSystem string, size int64) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	made, err := c.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{one(fileSystem)}, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		Parameters: map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.GetVolume().GetVolumeId()
}

func (n *blockNode) staging(id string) string { return n.h.Path("kubelet/staging/" + id) }
func (n *blockNode) target(id string) string  { return n.h.Path("kubelet/pods/" + id) }

func (n *blockNode) stage(id, fileSystem string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	_, err := n.node.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: n.staging(id), VolumeCapability: one(fileSystem)})
	if err != nil {
		return err
	}
	_, err = n.node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: n.staging(id), TargetPath: n.target(id), VolumeCapability: one(fileSystem),
	})
	return err
}

func (n *blockNode) unstage(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if _, err := n.node.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: n.target(id)}); err != nil {
		return err
	}
	_, err := n.node.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: n.staging(id)})
	return err
}

// TestBlockLife takes volumes of each kind through their life: made, formatted, written,
// given to another node, grown in use, discarded, deleted, gone from the bricks.
func TestBlockLife(t *testing.T) {
	for _, kind := range []string{"xfs", "ext4", ""} {
		t.Run("on "+kind, func(t *testing.T) {
			c := bricks.Start(t, schema.Replica3, 3, nil)
			controller, nodes := blockHosts(t, c, "a", "b")
			a, b := nodes[0], nodes[1]
			const size = 400 << 20
			id := createBlock(t, controller, "pvc-1", kind, size)
			must(t, a.stage(id, kind))
			must(t, a.stage(id, kind)) // again
			if err := b.stage(id, kind); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "node a has") {
				t.Fatalf("on a second node: %v", err)
			}
			if kind == "xfs" {
				listed(t, a.h)
			}
			data := bytes.Repeat([]byte("block"), 1000)
			file := func(n *blockNode) string {
				if kind == "" {
					return n.target(id)
				}
				return filepath.Join(n.target(id), "file")
			}
			if kind != "" {
				discards(t, c, a.target(id))
			}
			must(t, writeSynced(file(a), data))
			must(t, a.unstage(id))
			must(t, a.unstage(id))
			must(t, b.stage(id, kind))
			if got, err := readStart(file(b), len(data)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("on the other node: %v", err)
			}
			growBlock(t, controller, b, id, kind, 2*size)
			if _, err := controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id}); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("deleted while it is in use: %v", err)
			}
			must(t, b.unstage(id))
			_, err := controller.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
			must(t, err)
			place := filepath.Join(c.Pool.Bricks[0].Directory, "blocks")
			c.Eventually(20*time.Second, "the bricks have nothing of the volume", func() bool {
				left, err := exec.Command("find", place, "-type", "f").Output()
				return err == nil && len(left) == 0
			})
		})
	}
}

// discards holds that space which a file has given back is given back by the bricks.
func discards(t *testing.T, c *bricks.Cluster, target string) {
	t.Helper()
	used := func() int64 {
		var st unix.Stat_t
		all, _ := filepath.Glob(c.Pool.Bricks[0].Directory + "/blocks/volumes/*/*/*")
		if len(all) != 1 || unix.Stat(all[0], &st) != nil {
			t.Fatalf("the brick has %v", all)
		}
		return st.Blocks * 512
	}
	const large = 64 << 20
	must(t, writeSynced(filepath.Join(target, "large"), bytes.Repeat([]byte{1}, large)))
	before := used()
	must(t, os.Remove(filepath.Join(target, "large")))
	if out, err := exec.Command("sync", "-f", target).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := exec.Command("fstrim", target).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.Eventually(10*time.Second, "the brick has the space back", func() bool { return used() < before-large*9/10 })
}

// listed holds that the command line tells which node has the volume.
func listed(t *testing.T, h *host.Host) {
	t.Helper()
	out, err := exec.Command(h.Build("atoll"), "volumes", "--catalog", h.Path("catalog"), "list", "p", "-o", "json").Output()
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
	if v := all.Volumes[0]; v.Name != "pvc-1" || v.Layout != "Block" || v.Node != "a" || v.FileSystem != "xfs" || v.Epoch != 1 || !v.Formatted {
		t.Errorf("listed %+v", v)
	}
}

// growBlock makes a volume larger while it is used, and holds that it is.
func growBlock(t *testing.T, controller csi.ControllerClient, n *blockNode, id, kind string, size int64) {
	t.Helper()
	grown, err := controller.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: size}})
	if err != nil || !grown.GetNodeExpansionRequired() {
		t.Fatalf("growing: %v, %v", grown, err)
	}
	if kind == "ext4" && !capable(unix.CAP_SYS_RESOURCE) {
		must(t, n.unstage(id)) // it grows when it is staged again
		must(t, n.stage(id, kind))
	}
	if _, err := n.node.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{
		VolumeId: id, VolumePath: n.target(id), StagingTargetPath: n.staging(id), CapacityRange: &csi.CapacityRange{RequiredBytes: size},
	}); err != nil {
		t.Fatal(err)
	}
	stats, err := n.node.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: n.target(id)})
	must(t, err)
	if total := stats.GetUsage()[0].GetTotal(); total < size*9/10 || kind == "" && total != size {
		t.Errorf("it has %d bytes after growing to %d", total, size)
	}
}

func capable(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[capability/32].Effective&(1<<(capability%32)) != 0
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(data, 0); err != nil {
		return err
	}
	return f.Sync()
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

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
