// Package block tests block volumes with real bricks and nodes, in a network namespace each, that
// are disconnected, stopped and killed under writers that remember every page.
package block

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
	"github.com/atoll-storage/atoll/tests/internal/netns"
	"github.com/atoll-storage/atoll/tests/internal/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Parallel(6)
	os.Exit(sandbox.Run(m))
}

// cluster is a pool with nodes.
type cluster struct {
	t          *testing.T
	network    *netns.Network
	bricks     *bricks.Cluster
	controller csi.ControllerClient
	nodes      []*node
}

// node is a host with the driver that can be disconnected.
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

// kind is a type of pools with one set.
type kind struct {
	name   string
	is     schema.Type
	bricks int   // without a tiebreaker
	size   int64 // of a volume, in bytes
	shape  func(*volfile.Pool)
}

// kinds are the types whose volumes survive the restart of a brick. A heal compares whole files:
// one large volume is enough.
var kinds = []kind{
	{"Replica3", schema.Replica3, 3, size / 8, nil},
	{"Arbiter", schema.Arbiter, 3, size / 8, nil},
	{"Disperse 2+1", schema.Disperse, 3, size / 8, func(p *volfile.Pool) { p.Data, p.Redundancy = 2, 1 }},
	{
		"Replica2 with a tiebreaker", schema.Replica2, 2, size / 8,
		func(p *volfile.Pool) { p.Tiebreaker = &volfile.Endpoint{} },
	},
}

// onKinds runs a test on all kinds, side by side.
func onKinds(t *testing.T, test func(*testing.T, kind)) {
	t.Helper()
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// start makes a pool of three bricks with a self-heal daemon, a controller, and nodes.
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
			h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts",
				h.Path("controller-mounts"))
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

// healthAddress is the address of the mounter's metrics in the node's network namespace.
const healthAddress = "127.0.0.1:9808"

func (n *node) startMounter() {
	n.mounter = n.h.Start("mounter", "--socket", n.h.Path("mounter.sock"), "--node-id", n.name, "--health",
		healthAddress)
}

func (n *node) startPlugin() {
	n.plugin = n.h.Start("node", "--endpoint", "unix://"+n.h.Path("node.sock"), "--mounter", n.h.Path("mounter.sock"),
		"--node-id", n.name, "--kubelet-root", n.h.Path("kubelet"))
	n.csi = csi.NewNodeClient(n.h.Dial("node.sock"))
}

// connect connects the node to the network, or disconnects it.
func (n *node) connect(up bool) {
	n.t.Helper()
	if err := n.c.network.Connect(n.network, up); err != nil {
		n.t.Fatal(err)
	}
}

// client is the process ID of the node's client.
func (n *node) client() int {
	n.t.Helper()
	pids := host.Clients(n.t, n.h.Path("mounts"))
	if len(pids) != 1 {
		n.t.Fatalf("node %s has the clients %v, want one", n.name, pids)
	}
	return pids[0]
}

// connected waits until the node's client is connected to all bricks.
func (n *node) connected() {
	n.t.Helper()
	want := len(n.c.bricks.Pool.Bricks)
	tiebreakers := 0
	if n.c.bricks.Pool.Tiebreaker != nil {
		tiebreakers = 1
	}
	n.c.bricks.Eventually(fmt.Sprintf("the client of node %s is connected to all bricks", n.name), func() bool {
		mounts, _ := filepath.Glob(n.h.Path("mounts/*/root"))
		return len(mounts) == 1 && bricks.Connected(mounts[0]) == want &&
			bricks.ConnectedTiebreakers(mounts[0]) == tiebreakers
	})
}

// lost waits until the node's mounter has noticed that volumes are lost.
func (n *node) lost(volumes int) {
	n.t.Helper()
	const counter = `atoll_block_volumes_lost_total{pool="p"} `
	await.True(n.t, fmt.Sprintf("node %s has lost its volume", n.name), func() bool {
		text, err := netns.Get(n.network, "http://"+healthAddress+"/metrics")
		_, value, found := strings.Cut(text, counter)
		value, _, _ = strings.Cut(value, "\n")
		count, convert := strconv.Atoi(value)
		return err == nil && found && convert == nil && count >= volumes
	}, n.h.Logs)
}

// locked waits until the clients of nodes have locked the volume at a brick.
func (c *cluster) locked(brick int, nodes ...*node) {
	c.t.Helper()
	if brick >= len(c.bricks.Pool.Bricks) {
		return // a tiebreaker has no locks
	}
	for _, n := range nodes {
		n.connected() // a brick that is still starting may not survive a statedump
		await.True(c.t, fmt.Sprintf("node %s has its lock at brick %d", n.name, brick), func() bool {
			return c.bricks.HasLock(brick, n.client())
		}, func() string { return strings.Join(c.bricks.Locks(brick), "\n") }, n.h.Logs)
	}
}

// restart kills a brick under a writer and starts it again, and waits until it is healed, and
// nodes have locked the volume there.
func (c *cluster) restart(brick int, w *writer, nodes ...*node) {
	c.t.Helper()
	bricks.Stop(c.bricks.Bricks[brick])
	w.progress(c.t, 20)
	c.bricks.StartBrick(brick)
	c.locked(brick, nodes...)
	c.healed(brick)
}

// healed waits until no other brick has pending changes for a brick.
func (c *cluster) healed(brick int) {
	c.t.Helper()
	c.bricks.Eventually(fmt.Sprintf("brick %d is healed", brick), func() bool { return c.pending(brick) == 0 })
}

// pending counts the copies of volumes with counters of changes that a brick of a replicated pool lacks. The
// index of a brick says less: it has every file that is being written as well.
func (c *cluster) pending(brick int) (n int) {
	c.t.Helper()
	for i, b := range c.bricks.Pool.Bricks {
		if i == brick {
			continue
		}
		volumes := filepath.Join(b.Directory, "blocks/volumes")
		must(c.t, filepath.WalkDir(volumes, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			file, err := filepath.Rel(b.Directory, path)
			if c.bricks.Blames(i, brick, file) {
				n++
			}
			return err
		}))
	}
	return n
}
