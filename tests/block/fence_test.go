package block

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/reconciler/rollout"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// size is that of the volumes, in bytes: some hundred thousand pages.
const size = 512 << 20

// takeoverLimit is what a cut-off node may hold up another one.
const takeoverLimit = 15 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// underWriter is a pool with two nodes, the first of which has a raw volume that is written.
func underWriter(t *testing.T, k kind) (c *cluster, a, b *node, id string, w *writer) {
	t.Helper()
	c = startKind(t, k, "a", "b")
	a, b = c.nodes[0], c.nodes[1]
	id = c.create("pvc-1", "", k.size)
	must(t, a.take(t.Context(), id, ""))
	return c, a, b, id, startWriter("node a", a.target(id), k.size)
}

// refused holds that another node does not get the volume.
func (n *node) refused(id string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := n.take(ctx, id, ""); status.Code(err) == codes.Canceled {
		return // the test has ended
	} else if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "in use") {
		n.t.Errorf("node %s got %s, or not as it should: %v", n.name, id, err)
	}
}

// TestPartition cuts a node off under a writer. Another one gets the volume, with all that
// was acknowledged, and writes; and nothing of the first gets through any more, when it is
// back neither.
func TestPartition(t *testing.T) { onKinds(t, testPartition) }

func testPartition(t *testing.T, k kind) {
	_, a, b, id, first := underWriter(t, k)
	time.Sleep(3 * time.Second)
	b.refused(id)
	a.connect(false)
	took := b.takeWithin(takeoverLimit+takeoverGrace, id, "")
	t.Logf("node b got the volume after %s, of which it waited %s", took.Round(100*time.Millisecond), takeoverGrace)
	first.check(t, b.target(id))
	// Each page that the first one has, and all others.
	second := startWriter("node b", b.target(id), k.size)
	time.Sleep(3 * time.Second)
	before, _ := first.counts()
	a.connect(true)
	time.Sleep(10 * time.Second)
	second.finish()
	after, refused := first.counts()
	if after != before || refused == 0 {
		t.Errorf("node a had %d writes acknowledged before it came back, and %d after, %d refused", before, after, refused)
	}
	first.finish()
	second.check(t, b.target(id))
	// The first one is told, gives it back, and can have it again.
	must(t, a.give(id))
	must(t, b.give(id))
	must(t, a.take(t.Context(), id, ""))
	second.check(t, a.target(id))
	must(t, a.give(id))
}

// takeoverGrace is that of package devices.
const takeoverGrace = 3 * time.Second

// TestBricksRolled restarts all bricks, and the tiebreaker, one after another, each when the
// one before is healed, and the first once more, under a writer. It has no error, and no
// other node ever gets the volume.
func TestBricksRolled(t *testing.T) {
	onKinds(t, func(t *testing.T, k kind) {
		if k.is == schema.Disperse {
			testDispersed(t, k)
			return
		}
		testBricksRolled(t, k)
	})
}

// testDispersed restarts one brick, and that is borne, but the volume is not locked there again
// (see package devices); and then another one.
func testDispersed(t *testing.T, k kind) {
	c, a, b, id, w := underWriter(t, k)
	for i := range 2 {
		ok, failed := w.counts()
		if failed > 0 {
			t.Fatalf("%d writes failed before brick %d was restarted", failed, i)
		}
		bricks.Stop(c.bricks.Bricks[i])
		time.Sleep(time.Second)
		c.bricks.StartBrick(i)
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // the file cannot be read when the second one is down
			if err := b.take(ctx, id, ""); err == nil {
				t.Error("node b got the volume")
			}
			cancel()
		}
		now, failed := w.counts()
		t.Logf("brick %d: %d writes, %d refused", i, now-ok, failed)
	}
	isLost(t, a, b, id, w)
}

func testBricksRolled(t *testing.T, k kind) {
	c, a, b, id, w := underWriter(t, k)
	stop := make(chan struct{})
	tries := make(chan int)
	go func() {
		n := 0
		defer func() { tries <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
			b.refused(id)
		}
	}()
	all := len(c.bricks.Bricks)
	for n := range all + 1 {
		i := n % all
		if n > 0 {
			c.settle()
		}
		bricks.Stop(c.bricks.Bricks[i])
		time.Sleep(time.Second)
		c.bricks.StartBrick(i)
		time.Sleep(5 * time.Second) // until the locks are on it again
		begin := time.Now()
		c.bricks.Eventually(5*time.Minute, "the brick is healed", func() bool { return c.lacking(i) == 0 })
		ok, failed := w.counts()
		t.Logf("brick %d: healed after %s, %d writes, %d refused", i, time.Since(begin).Round(time.Second), ok, failed)
	}
	close(stop)
	t.Logf("node b tried %d times", <-tries)
	w.finish()
	if _, failed := w.counts(); failed > 0 {
		t.Errorf("%d writes failed", failed)
	}
	w.check(t, a.target(id))
	must(t, a.give(id))
}

// settle waits as the reconciler does before it restarts the next brick of a set that has a
// tiebreaker, and holds that this is long enough.
func (c *cluster) settle() {
	c.t.Helper()
	if c.bricks.Pool.Tiebreaker == nil {
		return
	}
	begin := time.Now()
	c.bricks.Eventually(rollout.SettleTimeTiebreaker, "the tiebreaker holds nothing against a brick", func() bool { return c.bricks.Blamed() == 0 })
	c.t.Logf("the tiebreaker held it to be wrong for %s after that", time.Since(begin).Round(100*time.Millisecond))
	time.Sleep(time.Until(begin.Add(rollout.SettleTimeTiebreaker)))
}

// lacking counts what the other bricks have for one that it lacks.
func (c *cluster) lacking(brick int) int {
	n := 0
	for i, b := range c.bricks.Pool.Bricks {
		entries, _ := os.ReadDir(b.Directory + "/.glusterfs/indices/xattrop")
		for _, e := range entries {
			if i != brick && !strings.HasPrefix(e.Name(), "xattrop-") {
				n++
			}
		}
	}
	return n
}

// TestTwoBricksAtOnce restarts two of three bricks at the same time: the node has lost its
// volume, says so, and whoever takes it then has all that was acknowledged.
func TestTwoBricksAtOnce(t *testing.T) {
	c, a, b, id, w := underWriter(t, kinds[0])
	time.Sleep(2 * time.Second)
	for i := range 2 {
		bricks.Stop(c.bricks.Bricks[i])
	}
	for i := range 2 {
		c.bricks.StartBrick(i)
	}
	time.Sleep(5 * time.Second)
	isLost(t, a, b, id, w)
}

// isLost holds that the first node has lost its volume to two restarts of bricks.
func isLost(t *testing.T, a, b *node, id string, w *writer) {
	t.Helper()
	ok, failed := w.counts()
	if failed == 0 {
		t.Error("writes go on")
	}
	b.refused(id) // the third brick still has the lock
	time.Sleep(2 * time.Second)
	if now, _ := w.counts(); now != ok {
		t.Errorf("%d writes were acknowledged after the volume was lost", now-ok)
	}
	w.finish()
	must(t, a.give(id)) // the pod goes
	b.takeWithin(takeoverLimit, id, "")
	w.check(t, b.target(id))
	must(t, b.give(id))
}

// TestKilled ends what a volume hangs on, one after the other.
func TestKilled(t *testing.T) {
	c := start(t, "a", "b")
	a, b := c.nodes[0], c.nodes[1]
	for name, kill := range map[string]struct {
		do    func()
		loses bool
	}{
		"the node plugin": {func() { bricks.Stop(a.plugin); a.startPlugin() }, false},
		"the client":      {func() { must(t, unix.Kill(a.client(), unix.SIGKILL)) }, true},
		"the mount holder": {func() {
			bricks.Stop(a.mounter)
			a.startMounter()
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			id := c.create("pvc-"+strings.ReplaceAll(name, " ", "-"), "", size)
			must(t, a.take(t.Context(), id, ""))
			w := startWriter("node a", a.target(id), size)
			time.Sleep(2 * time.Second)
			kill.do()
			time.Sleep(2 * time.Second)
			ok, failed := w.counts()
			if lost := failed > 0; lost != kill.loses {
				t.Errorf("lost: %t, %d writes were refused", lost, failed)
			}
			if !kill.loses {
				b.refused(id)
				w.finish()
				w.check(t, a.target(id))
				must(t, a.give(id))
				return
			}
			took := b.takeWithin(takeoverLimit, id, "")
			t.Logf("node b got the volume after %s", took.Round(100*time.Millisecond))
			w.finish()
			if now, _ := w.counts(); now != ok {
				t.Errorf("%d writes were acknowledged after the volume was lost", now-ok)
			}
			w.check(t, b.target(id))
			must(t, a.give(id))
			must(t, b.give(id))
			must(t, a.take(t.Context(), id, "")) // and again
			w.check(t, a.target(id))
			must(t, a.give(id))
		})
	}
}

// TestFileSystemLost ends the client, and then the mount holder, under a file system. Its
// files fail, and a pod that is started on the same node has it again, without its being
// unstaged: a kubelet does that only when no pod wants the volume.
func TestFileSystemLost(t *testing.T) {
	c := start(t, "a")
	a := c.nodes[0]
	id := c.create("pvc-1", "xfs", size)
	must(t, a.take(t.Context(), id, "xfs"))
	for name, kill := range map[string]func(){
		"client":       func() { must(t, unix.Kill(a.client(), unix.SIGKILL)) },
		"mount holder": func() { bricks.Stop(a.mounter); a.startMounter() },
	} {
		file := filepath.Join(a.target(id), name)
		must(t, writeSynced(file, []byte(name)))
		kill()
		c.bricks.Eventually(20*time.Second, "files fail", func() bool { return writeSynced(file, []byte("lost")) != nil })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err := a.csi.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: a.target(id)})
		must(t, err)
		_, err = a.csi.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: id, StagingTargetPath: a.staging(id), TargetPath: a.target(id), VolumeCapability: capability("xfs"),
		})
		must(t, err)
		if text, err := os.ReadFile(file); err != nil || string(text) != name {
			t.Errorf("after the end of the %s: %q, %v", name, text, err)
		}
	}
	must(t, a.give(id))
}

// TestNodeLeft: a pod that uses a volume raw has the node of its device. When the volume is lost
// while the pod has it closed, the device is free, and another volume must not be under that
// node: the pod would open it and have the other volume.
func TestNodeLeft(t *testing.T) {
	c := start(t, "a")
	a := c.nodes[0]
	lost, other := c.create("lost", "", size), c.create("other", "", size)
	must(t, a.take(t.Context(), lost, ""))
	bricks.Stop(a.mounter)
	a.startMounter()
	left := a.target(lost)
	c.bricks.Eventually(10*time.Second, "the device has no file any more", func() bool {
		_, err := readStart(left, page)
		return err != nil
	})
	a.takeWithin(10*time.Second, other, "")
	must(t, writeSynced(a.target(other), bytes.Repeat([]byte("other"), page)))
	if data, err := readStart(left, page); err == nil {
		t.Errorf("who had the lost volume has %q of the other one", data[:10])
	}
	// Published again where it was, it is that volume's new device that is there.
	must(t, a.take(t.Context(), lost, ""))
	must(t, writeSynced(left, bytes.Repeat([]byte("again"), page)))
	if data, err := readStart(a.target(other), page); err != nil || !bytes.HasPrefix(data, []byte("other")) {
		t.Errorf("the other volume has %q, %v", data[:10], err)
	}
	must(t, a.give(other))
	must(t, a.give(lost))
}

// TestStopped stops the client of a node as a machine does that is overloaded. Its lock
// stays, so nobody else gets the volume, and it goes on where it was.
func TestStopped(t *testing.T) {
	_, a, b, id, w := underWriter(t, kinds[0])
	time.Sleep(2 * time.Second)
	client := a.client()
	must(t, unix.Kill(client, unix.SIGSTOP))
	defer unix.Kill(client, unix.SIGCONT)
	ok, _ := w.counts()
	for range 4 {
		time.Sleep(5 * time.Second)
		b.refused(id)
	}
	must(t, unix.Kill(client, unix.SIGCONT))
	time.Sleep(3 * time.Second)
	now, failed := w.counts()
	w.finish()
	t.Logf("%d writes before, %d after it went on, %d refused", ok, now-ok, failed)
	if now-ok < 10 || failed > 0 {
		t.Error("the writer does not go on")
	}
	w.check(t, a.target(id))
	must(t, a.give(id))
}
