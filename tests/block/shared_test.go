package block

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// sharedCapability is the capability of a raw volume for several nodes.
func sharedCapability() *csi.VolumeCapability {
	c := capability("")
	c.AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	return c
}

// createShared creates a raw volume for several nodes, with a value of rawReadWriteMany.
func (c *cluster) createShared(name, parameter string) (id string, err error) {
	c.t.Helper()
	r := creation(name, sharedCapability(), 2*half)
	if parameter != "" {
		r.Parameters["rawReadWriteMany"] = parameter
	}
	return c.created(c.t.Context(), r)
}

// share publishes a volume that other nodes may have too.
func (n *node) share(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	return await.Call(ctx, func(ctx context.Context) error { return n.tryPublish(ctx, id, sharedCapability()) })
}

// shared starts a pool with two nodes that both have a volume.
func shared(t *testing.T) (c *cluster, a, b *node, id string) {
	t.Helper()
	c = start(t, "a", "b")
	a, b = c.nodes[0], c.nodes[1]
	id, err := c.createShared("pvc-1", "true")
	must(t, err)
	for _, n := range c.nodes {
		must(t, await.Call(t.Context(), func(ctx context.Context) error {
			_, err := c.controller.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
				VolumeId: id,
				NodeId:   n.name, VolumeCapability: sharedCapability(),
			})
			return err
		}))
		must(t, n.share(id))
	}
	return c, a, b, id
}

// inUse checks that a volume is not deleted while nodes have it, and that these are listed.
func (c *cluster) inUse(id string, by ...string) {
	c.t.Helper()
	if err := c.deleted(c.t.Context(), id); status.Code(err) != codes.FailedPrecondition ||
		!strings.Contains(err.Error(), "in use: pvc-1 is attached to node") {
		c.t.Errorf("delete %s, which %v have: %v", id, by, err)
	}
	h := c.nodes[1].h
	out, err := exec.CommandContext(c.t.Context(), "nsenter", "--net="+h.Network, h.Build("atoll"), "volumes",
		"--catalog", h.Path("catalog"), "list", "p", "-o", "json").Output()
	var all struct {
		Volumes []struct {
			Shared bool
			Nodes  []string
		}
	}
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil || len(all.Volumes) != 1 || !all.Volumes[0].Shared || !slices.Equal(all.Volumes[0].Nodes, by) {
		c.t.Errorf("%v have the volume, listed are %s, %v", by, out, err)
	}
}

// half is the size of the half of a volume that a node writes to, in bytes.
const half = 16 << 20

// TestShared has two nodes write to a volume. Each immediately reads what the other has written,
// synced or not. No write fails while bricks are restarted one by one, and the volume is not
// deleted.
func TestShared(t *testing.T) {
	t.Parallel()
	c, a, b, id := shared(t)
	c.inUse(id, "a", "b")
	began := time.Now()
	const rounds = 20
	for n := uint64(1); n <= rounds; n++ {
		from, to := a, b
		if n%2 == 0 {
			from, to = b, a
		}
		put(t, from.target(id), n)
		if got := get(t, to.target(id)); got != n {
			t.Fatalf("node %s wrote %d, node %s reads %d", from.name, n, to.name, got)
		}
	}
	t.Logf("%d pages went from one node to the other in %s", rounds, time.Since(began).Round(time.Millisecond))
	writers := []*writer{
		startWriterAt("node a", a.target(id), 0, half),
		startWriterAt("node b", b.target(id), half, half),
	}
	for _, i := range []int{0, 1, 2, 0} {
		c.restart(i, writers[0], a, b)
	}
	for i, w := range writers {
		w.finish()
		if _, failed := w.counts(); failed > 0 {
			t.Errorf("%d writes of %s failed", failed, w.who)
		}
		w.check(t, c.nodes[1-i].target(id))
	}
	c.inUse(id, "a", "b")
	must(t, a.unpublish(id))
	c.inUse(id, "b")
	must(t, b.unpublish(id))
	must(t, c.deleted(t.Context(), id))
}

// put writes a number to the first page of a device, and does not sync it.
func put(t *testing.T, device string, number uint64) {
	t.Helper()
	p := aligned()
	defer unix.Munmap(p)
	binary.LittleEndian.PutUint64(p, number)
	f, err := os.OpenFile(device, os.O_WRONLY|unix.O_DIRECT, 0)
	must(t, err)
	_, err = f.WriteAt(p, 0)
	must(t, err)
	must(t, f.Close())
}

// get reads the number.
func get(t *testing.T, device string) uint64 {
	t.Helper()
	p := aligned()
	defer unix.Munmap(p)
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_DIRECT, 0)
	must(t, err)
	defer f.Close()
	_, err = f.ReadAt(p, 0)
	must(t, err)
	return binary.LittleEndian.Uint64(p)
}

// TestSharedPartition disconnects one of two nodes that both write. The other one continues, and
// overwrites what the first one has written once the bricks have dropped its locks. No write of
// the first node gets through any more, neither before nor after it is connected again. The
// bricks see to that, also if the node's mounter is stopped.
func TestSharedPartition(t *testing.T) {
	t.Parallel()
	c, a, b, id := shared(t)
	for round, mounter := range []string{"runs", "is stopped"} {
		t.Run("its mounter "+mounter, func(t *testing.T) {
			c.t, a.t, b.t = t, t, t
			if mounter != "runs" {
				must(t, unix.Kill(a.mounter.Process.Pid, unix.SIGSTOP))
				defer unix.Kill(a.mounter.Process.Pid, unix.SIGCONT)
			}
			first, other := startWriterAt("node a", a.target(id), 0, half),
				startWriterAt("node b", b.target(id), half, half)
			first.progress(t, 200)
			other.progress(t, 200)
			client := a.client()
			a.connect(false)
			for i := range c.bricks.Bricks {
				c.bricks.Eventually("the bricks have dropped the locks of node a",
					func() bool { return !c.bricks.HasLock(i, client) })
			}
			before, _ := first.counts()
			cut := first.last()
			first.check(t, b.target(id))
			// The second writer overwrites every page that the first one may have on its way.
			second := startWriterAt("node b", b.target(id), 0, half)
			second.progress(t, int(cut)+100)
			a.connect(true)
			a.connected()
			first.refusals(t, 100)
			must(t, unix.Kill(a.mounter.Process.Pid, unix.SIGCONT))
			a.lost(round + 1)
			first.refusals(t, 100)
			if after, _ := first.counts(); after != before {
				t.Errorf("node a had %d writes acknowledged after the bricks had dropped its locks", after-before)
			}
			first.finish()
			second.finish()
			other.finish()
			first.absentAfter(t, b.target(id), cut)
			second.check(t, b.target(id))
			other.check(t, b.target(id))
			if _, failed := other.counts(); failed > 0 {
				t.Errorf("%d writes of the other node failed", failed)
			}
			c.returned(a, b, id)
		})
	}
	must(t, a.unpublish(id))
	must(t, b.unpublish(id))
}

// returned checks that a node that was disconnected can give the volume up and have it again.
func (c *cluster) returned(a, b *node, id string) {
	c.t.Helper()
	c.inUse(id, "a", "b")
	must(c.t, a.unpublish(id))
	c.inUse(id, "b")
	must(c.t, a.share(id))
	put(c.t, a.target(id), 7)
	if got := get(c.t, b.target(id)); got != 7 {
		c.t.Errorf("node a wrote 7, node b reads %d", got)
	}
}

// TestSharedTwoBricksAtOnce restarts two of three bricks at the same time. All nodes have lost the
// volume, and do not lock it again, although no other lock conflicts.
func TestSharedTwoBricksAtOnce(t *testing.T) {
	t.Parallel()
	c, a, b, id := shared(t)
	writers := []*writer{
		startWriterAt("node a", a.target(id), 0, half),
		startWriterAt("node b", b.target(id), half, half),
	}
	for _, w := range writers {
		w.progress(t, 100)
	}
	for i := range 2 {
		bricks.Stop(c.bricks.Bricks[i])
	}
	for i := range 2 {
		c.bricks.StartBrick(i)
	}
	for i, w := range writers {
		w.refusals(t, 1)
		before, _ := w.counts()
		c.nodes[i].connected()
		c.nodes[i].lost(1)
		w.refusals(t, 100)
		if ok, _ := w.counts(); ok != before {
			t.Errorf("%s: %d writes were acknowledged after the volume was lost", w.who, ok-before)
		}
		w.finish()
		must(t, c.nodes[i].unpublish(id))
	}
	must(t, b.share(id))
	for _, w := range writers {
		w.check(t, b.target(id))
	}
	must(t, b.unpublish(id))
	// The notes of nodes that lost the volume do not keep it from being deleted.
	must(t, c.deleted(t.Context(), id))
}

// TestSharedNeedsRecord requests a volume as shared whose class, and so its record, does not allow
// that. Nodes are refused, whatever they request.
func TestSharedNeedsRecord(t *testing.T) {
	t.Parallel()
	c := start(t, "a", "b")
	a, b := c.nodes[0], c.nodes[1]
	for parameter, says := range map[string]string{
		"": "rawReadWriteMany", "false": "rawReadWriteMany",
		"yes": `"true" or "false"`,
	} {
		if _, err := c.createShared("pvc-2", parameter); status.Code(err) != codes.InvalidArgument ||
			!strings.Contains(err.Error(), says) {
			t.Errorf("rawReadWriteMany %q: %v", parameter, err)
		}
	}
	id := c.create("pvc-1", "", size)
	if err := a.share(id); status.Code(err) != codes.InvalidArgument ||
		!strings.Contains(err.Error(), "one node at a time") {
		t.Errorf("a volume of one node was shared: %v", err)
	}
	must(t, b.publish(id, "")) // node a has no lock on a volume that it was refused
	if err := a.share(id); status.Code(err) != codes.FailedPrecondition ||
		!strings.Contains(err.Error(), "in use: pvc-1 is attached to node b") {
		t.Errorf("a volume of one node was shared: %v", err)
	}
	if err := b.share(id); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a volume of one node was shared: %v", err)
	}
	put(t, b.target(id), 1) // node b still has the volume
	must(t, b.unpublish(id))
}
