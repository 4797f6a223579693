// Package block fences block volumes for real: bricks and nodes in network namespaces of
// their own, cut off, stopped and killed under writers that know every block.
package block

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
	"github.com/atoll-storage/atoll/tests/internal/netns"
)

// cluster is a pool with nodes.
type cluster struct {
	t          *testing.T
	network    *netns.Network
	bricks     *bricks.Cluster
	controller csi.ControllerClient
	nodes      []*node
}

// node is a host with the driver, that can be cut off.
type node struct {
	t       *testing.T
	h       *host.Host
	c       *cluster
	name    string
	network string
	mounter *exec.Cmd
	plugin  *exec.Cmd
	csi     csi.NodeClient
}

// TestMain lets all kinds of pools be tested beside each other on few cores, too: mostly,
// tests wait.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", strconv.Itoa(len(kinds))) // unless another number is asked for
	os.Exit(m.Run())
}

// kind is a kind of pools, of one set.
type kind struct {
	name   string
	is     schema.Type
	bricks int   // without a tiebreaker
	size   int64 // of a volume, in bytes
	shape  func(*volfile.Pool)
}

// kinds are those whose volumes outlive the restart of a brick. Bricks compare whole files: one
// that is large is enough.
var kinds = []kind{
	{"Replica3", schema.Replica3, 3, size / 4, nil},
	{"Arbiter", schema.Arbiter, 3, size / 8, nil},
	{"Disperse 2+1", schema.Disperse, 3, size / 8, func(p *volfile.Pool) { p.Data, p.Redundancy = 2, 1 }},
	{"Replica2 with a tiebreaker", schema.Replica2, 2, size / 8, func(p *volfile.Pool) { p.Tiebreaker = &volfile.Endpoint{} }},
}

// onKinds runs a test on all kinds, beside each other.
func onKinds(t *testing.T, test func(*testing.T, kind)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// start makes a pool of three bricks, a self-heal daemon, a controller, and nodes.
func start(t *testing.T, names ...string) *cluster {
	t.Helper()
	return startOn(t, nil, names...)
}

// startOn is start with bricks that are shaped before they start.
func startOn(t *testing.T, shape func(*volfile.Pool), names ...string) *cluster {
	t.Helper()
	return startKind(t, kind{"", schema.Replica3, 3, size, shape}, names...)
}

// startKind is start with a pool of another kind.
func startKind(t *testing.T, k kind, names ...string) *cluster {
	t.Helper()
	c := &cluster{t: t}
	if testing.Short() {
		t.Skip("starts real bricks and mounts: needs root, and no -short")
	}
	var err error
	if c.network, err = netns.New(); err != nil {
		t.Skipf("network namespaces are needed, as root: %v", err)
	}
	t.Cleanup(func() {
		if err := c.network.Close(); err != nil {
			t.Error(err)
		}
	})
	address, path := c.add()
	c.bricks = bricks.StartIn(t, path, address, k.is, k.bricks, k.shape)
	c.bricks.Heal()
	for i, name := range names {
		n := &node{t: t, c: c, name: name, h: host.Bare(t)}
		_, n.network = c.add()
		n.h.Network = n.network
		c.bricks.Catalog(n.h.Catalog(), schema.Block)
		n.startMounter()
		n.startPlugin()
		c.nodes = append(c.nodes, n)
		if i == 0 {
			h := host.Bare(t)
			h.Network = path
			c.bricks.Catalog(h.Catalog(), schema.Block)
			h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
			c.controller = csi.NewControllerClient(h.Dial("controller.sock"))
		}
	}
	return c
}

func (c *cluster) add() (address, path string) {
	c.t.Helper()
	address, path, err := c.network.Add()
	if err != nil {
		c.t.Fatal(err)
	}
	return address, path
}

func (n *node) startMounter() {
	n.mounter = n.h.Start("mounter", "--socket", n.h.Path("mounter.sock"), "--node-id", n.name)
}

func (n *node) startPlugin() {
	n.plugin = n.h.Start("node", "--endpoint", "unix://"+n.h.Path("node.sock"), "--mounter", n.h.Path("mounter.sock"), "--node-id", n.name, "--kubelet-root", n.h.Path("kubelet"))
	n.csi = csi.NewNodeClient(n.h.Dial("node.sock"))
}

// connect cuts the node off, or brings it back.
func (n *node) connect(up bool) {
	n.t.Helper()
	if err := n.c.network.Connect(n.network, up); err != nil {
		n.t.Fatal(err)
	}
}

// client is the process of the node's client.
func (n *node) client() int {
	n.t.Helper()
	pids := host.Clients(n.t, n.h.Path("mounts"))
	if len(pids) != 1 {
		n.t.Fatalf("node %s has the clients %v", n.name, pids)
	}
	return pids[0]
}

// capability is that of a block volume: with a file system, or "" for raw use.
func capability(fileSystem string) *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
	if fileSystem == "" {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fileSystem}}
	}
	return c
}

// create makes a volume.
func (c *cluster) create(name, fileSystem string, size int64) (id string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	made, err := c.controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{capability(fileSystem)}, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		Parameters: map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return made.GetVolume().GetVolumeId()
}

func deletion(id string) *csi.DeleteVolumeRequest { return &csi.DeleteVolumeRequest{VolumeId: id} }

func (n *node) staging(id string) string { return n.h.Path("kubelet/staging/" + id) }

// target is where a pod of the node has the volume: a folder, or a device.
func (n *node) target(id string) string { return n.h.Path("kubelet/pods/" + id) }

// take brings a volume to a pod of the node.
func (n *node) take(ctx context.Context, id, fileSystem string) error {
	_, err := n.csi.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: n.staging(id), VolumeCapability: capability(fileSystem)})
	if err != nil {
		return err
	}
	_, err = n.csi.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: n.staging(id), TargetPath: n.target(id), VolumeCapability: capability(fileSystem),
	})
	return err
}

// takeWithin tries until it works, and tells how long that took.
func (n *node) takeWithin(limit time.Duration, id, fileSystem string) time.Duration {
	n.t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := n.take(ctx, id, fileSystem)
		if err == nil {
			return time.Since(begin)
		}
		select {
		case <-ctx.Done():
			n.t.Fatalf("node %s does not get %s within %s: %v", n.name, id, limit, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// give gives a volume back.
func (n *node) give(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := n.csi.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: n.target(id)}); err != nil {
		return fmt.Errorf("unpublishing: %w", err)
	}
	for {
		_, err := n.csi.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: n.staging(id)})
		if status.Code(err) == codes.Unavailable { // still open, such as in a mount namespace that a test beside this one has made
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
			}
		}
		if err != nil {
			return fmt.Errorf("unstaging: %w", err)
		}
		return nil
	}
}
