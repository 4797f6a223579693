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

	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// sharedCapability is that of a raw volume for several nodes.
func sharedCapability() *csi.VolumeCapability {
	c := capability("")
	c.AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	return c
}

// createShared asks for a raw volume for several nodes.
func (c *cluster) createShared(name, parameter string) (id string, err error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	r := &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{sharedCapability()}, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * half},
		Parameters: map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"},
	}
	if parameter != "" {
		r.Parameters["rawReadWriteMany"] = parameter
	}
	made, err := c.controller.CreateVolume(ctx, r)
	return made.GetVolume().GetVolumeId(), err
}

// share is take for a volume that other nodes may have.
func (n *node) share(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := n.csi.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: n.staging(id), VolumeCapability: sharedCapability()})
	if err != nil {
		return err
	}
	_, err = n.csi.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: n.staging(id), TargetPath: n.target(id), VolumeCapability: sharedCapability(),
	})
	return err
}

// shared is a pool with two nodes that both have a volume.
func shared(t *testing.T) (c *cluster, a, b *node, id string) {
	t.Helper()
	c = start(t, "a", "b")
	a, b = c.nodes[0], c.nodes[1]
	id, err := c.createShared("pvc-1", "true")
	must(t, err)
	for _, n := range c.nodes {
		answer, err := c.controller.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: n.name, VolumeCapability: sharedCapability()})
		if err != nil {
			t.Fatal(answer, err)
		}
		must(t, n.share(id))
	}
	return c, a, b, id
}

// inUse holds that a volume is not deleted as long as nodes have it, and which those are.
func (c *cluster) inUse(id string, by ...string) {
	c.t.Helper()
	_, err := c.controller.DeleteVolume(c.t.Context(), deletion(id))
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "in use: pvc-1 was taken by node") {
		c.t.Errorf("deleting %s, which %v have: %v", id, by, err)
	}
	h := c.nodes[1].h
	out, err := exec.CommandContext(c.t.Context(), "nsenter", "--net="+h.Network, h.Build("atoll"), "volumes", "--catalog", h.Path("catalog"), "list", "p", "-o", "json").Output()
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
		c.t.Errorf("%v have it, listed are %s, %v", by, out, err)
	}
}

// half is what each node writes to, in bytes.
const half = 16 << 20

// TestShared has two nodes write to a volume. Each reads at once what the other has written,
// synced or not. Bricks are restarted one after another with no error; nobody deletes it.
func TestShared(t *testing.T) {
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
		if got := look(t, to.target(id)); got != n {
			t.Fatalf("node %s wrote %d, node %s reads %d", from.name, n, to.name, got)
		}
	}
	t.Logf("%d pages went from one node to the other in %s", rounds, time.Since(began).Round(time.Millisecond))
	writers := []*writer{startWriterAt("node a", a.target(id), 0, half), startWriterAt("node b", b.target(id), half, half)}
	for _, i := range []int{0, 1, 2, 0} {
		bricks.Stop(c.bricks.Bricks[i])
		time.Sleep(time.Second)
		c.bricks.StartBrick(i)
		time.Sleep(5 * time.Second) // until the locks are on it again
		begin := time.Now()
		c.bricks.Eventually(5*time.Minute, "the brick is healed", func() bool { return c.lacking(i) == 0 })
		t.Logf("brick %d: healed after %s", i, time.Since(begin).Round(time.Second))
	}
	for i, w := range writers {
		w.finish()
		if _, failed := w.counts(); failed > 0 {
			t.Errorf("%d writes of %s failed", failed, w.who)
		}
		w.check(t, c.nodes[1-i].target(id))
	}
	c.inUse(id, "a", "b")
	must(t, a.give(id))
	c.inUse(id, "b")
	must(t, b.give(id))
	_, err := c.controller.DeleteVolume(t.Context(), deletion(id))
	must(t, err)
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

// look reads it.
func look(t *testing.T, device string) uint64 {
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

// silence is how long a node must not have been heard of until nothing of it gets through.
const silence = 12 * time.Second

// TestSharedPartition cuts off one of two nodes that both write. The other one goes on, and
// when the bricks have dropped the first one's lock, writes over what that has written:
// nothing of the first gets through any more, when its link is back neither. That is so at the
// bricks: it does not take a mount holder that notices.
func TestSharedPartition(t *testing.T) {
	c, a, b, id := shared(t)
	for name, holder := range map[string]bool{"with its mount holder": true, "with its mount holder stopped": false} {
		t.Run(name, func(t *testing.T) {
			c.t, a.t, b.t = t, t, t
			if !holder {
				must(t, unix.Kill(a.mounter.Process.Pid, unix.SIGSTOP))
				defer unix.Kill(a.mounter.Process.Pid, unix.SIGCONT)
			}
			first, other := startWriterAt("node a", a.target(id), 0, half), startWriterAt("node b", b.target(id), half, half)
			time.Sleep(3 * time.Second)
			a.connect(false)
			time.Sleep(silence)
			before, _ := first.counts()
			first.check(t, b.target(id))
			second := startWriterAt("node b", b.target(id), 0, half)
			time.Sleep(3 * time.Second)
			a.connect(true)
			time.Sleep(10 * time.Second)
			must(t, unix.Kill(a.mounter.Process.Pid, unix.SIGCONT))
			time.Sleep(5 * time.Second) // it looks, and does not take the lock again
			after, refused := first.counts()
			if after != before || before == 0 || refused == 0 {
				t.Errorf("node a had %d writes acknowledged when it was silent for %s, and %d after, %d refused", before, silence, after-before, refused)
			}
			first.finish()
			second.finish()
			other.finish()
			second.check(t, b.target(id))
			other.check(t, b.target(id))
			if _, failed := other.counts(); failed > 0 {
				t.Errorf("%d writes of the node that was not cut off failed", failed)
			}
			c.back(a, b, id)
		})
	}
	must(t, a.give(id))
	must(t, b.give(id))
}

// back holds that a node that was cut off gives the volume back and can have it again.
func (c *cluster) back(a, b *node, id string) {
	c.t.Helper()
	c.inUse(id, "a", "b")
	must(c.t, a.give(id))
	c.inUse(id, "b")
	must(c.t, a.share(id))
	put(c.t, a.target(id), 7)
	if got := look(c.t, b.target(id)); got != 7 {
		c.t.Errorf("node a wrote 7, node b reads %d", got)
	}
}

// TestSharedTwoBricksAtOnce restarts two of three bricks at the same time: all nodes have
// lost the volume. Their locks could be had again, as no other's is in the way, and are not.
func TestSharedTwoBricksAtOnce(t *testing.T) {
	c, a, b, id := shared(t)
	writers := []*writer{startWriterAt("node a", a.target(id), 0, half), startWriterAt("node b", b.target(id), half, half)}
	time.Sleep(2 * time.Second)
	for i := range 2 {
		bricks.Stop(c.bricks.Bricks[i])
	}
	for i := range 2 {
		c.bricks.StartBrick(i)
	}
	time.Sleep(5 * time.Second)
	var before [2]int
	for i, w := range writers {
		before[i], _ = w.counts()
	}
	time.Sleep(5 * time.Second)
	for i, w := range writers {
		if ok, failed := w.counts(); ok != before[i] || failed == 0 {
			t.Errorf("%s: %d writes were acknowledged after the volume was lost, %d refused", w.who, ok-before[i], failed)
		}
		w.finish()
		must(t, c.nodes[i].give(id))
	}
	must(t, b.share(id))
	for _, w := range writers {
		w.check(t, b.target(id))
	}
	must(t, b.give(id))
	// The last one has tidied up, the one that was lost too.
	_, err := c.controller.DeleteVolume(t.Context(), deletion(id))
	must(t, err)
}

// TestSharedIsOfTheRecord asks for volumes of classes that do not allow it: the first node
// is refused, and the second one does not get it, whatever they ask for.
func TestSharedIsOfTheRecord(t *testing.T) {
	c := start(t, "a", "b")
	a, b := c.nodes[0], c.nodes[1]
	for parameter, says := range map[string]string{"": "rawReadWriteMany", "false": "rawReadWriteMany", "yes": `"true" or "false"`} {
		if _, err := c.createShared("pvc-2", parameter); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), says) {
			t.Errorf("rawReadWriteMany %q: %v", parameter, err)
		}
	}
	id := c.create("pvc-1", "", size)
	if err := a.share(id); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "one node at a time") {
		t.Errorf("a volume of one node was shared: %v", err)
	}
	must(t, b.take(t.Context(), id, "")) // node a does not keep what it was refused
	if err := a.share(id); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "in use: node b has") {
		t.Errorf("a volume of one node was shared: %v", err)
	}
	if err := b.share(id); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a volume of one node was shared: %v", err)
	}
	put(t, b.target(id), 1) // it keeps what it is using
	must(t, b.give(id))
}
