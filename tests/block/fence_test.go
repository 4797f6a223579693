package block

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/reconciler/rollout"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// size is the size of volumes, in bytes: some hundred thousand pages.
const size = 512 << 20

// underWriter starts a pool with two nodes, the first of which has a raw volume under a writer.
func underWriter(t *testing.T, k kind) (c *cluster, a, b *node, id string, w *writer) {
	t.Helper()
	c = startKind(t, k, "a", "b")
	a, b = c.nodes[0], c.nodes[1]
	id = c.create("pvc-1", "", k.size)
	must(t, a.publish(id, ""))
	return c, a, b, id, startWriter("node a", a.target(id), k.size)
}

// TestPartition disconnects a node under a writer. Another node gets the volume with everything
// that was acknowledged, and writes. No write of the first node gets through any more, neither
// before nor after it is connected again.
func TestPartition(t *testing.T) { onKinds(t, testPartition) }

func testPartition(t *testing.T, k kind) {
	_, a, b, id, first := underWriter(t, k)
	first.progress(t, 200)
	b.refused(id)
	a.connect(false)
	took := b.takeOver(id, "")
	t.Logf("node b has the volume after %s, of which it waited 3 s (blockdev.takeoverGrace)",
		took.Round(100*time.Millisecond))
	before, _ := first.counts()
	cut := first.last()
	first.check(t, b.target(id))
	// Writers visit pages in the same order: the second one overwrites every page that the first
	// one may still have on its way.
	second := startWriter("node b", b.target(id), k.size)
	second.progress(t, int(cut)+100)
	a.connect(true)
	a.connected()
	first.refusals(t, 100)
	second.progress(t, 100)
	second.finish()
	if after, _ := first.counts(); after != before {
		t.Errorf("node a had %d writes acknowledged after the takeover", after-before)
	}
	first.finish()
	second.check(t, b.target(id))
	first.absentAfter(t, b.target(id), cut)
	// The first node has lost the volume, and can have it again.
	must(t, a.unpublish(id))
	must(t, b.unpublish(id))
	must(t, a.publish(id, ""))
	second.check(t, a.target(id))
	must(t, a.unpublish(id))
}

// TestBricksRolled restarts all bricks and the tiebreaker one by one under a writer, each when the
// one before is healed, and the first one once more. No write fails, and no other node ever gets
// the volume.
func TestBricksRolled(t *testing.T) {
	onKinds(t, func(t *testing.T, k kind) {
		if k.is == schema.Disperse {
			testDispersedRestarts(t, k)
			return
		}
		testBricksRolled(t, k)
	})
}

// testDispersedRestarts restarts one brick, which writers survive, although the volume is not
// locked there again (see package blockdev); and then another one, which they do not.
func testDispersedRestarts(t *testing.T, k kind) {
	c, a, b, id, w := underWriter(t, k)
	for i := range 2 {
		w.progress(t, 20)
		if _, failed := w.counts(); failed > 0 {
			t.Fatalf("%d writes failed before brick %d was restarted", failed, i)
		}
		bricks.Stop(c.bricks.Bricks[i])
		if i == 0 {
			w.progress(t, 20)
		}
		c.bricks.StartBrick(i)
		for range 2 {
			for range 10 {
				// without two bricks, the file cannot be read
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				if err := b.tryPublish(ctx, id, capability("")); err == nil {
					t.Error("node b has the volume")
				}
				cancel()
			}
			a.connected()
		}
	}
	isLost(t, a, b, id, w)
}

func testBricksRolled(t *testing.T, k kind) {
	c, a, b, id, w := underWriter(t, k)
	stop, tries := make(chan struct{}), make(chan int)
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
			c.settle(a)
		}
		c.restart(i, w, a)
		t.Logf("brick %d: %s", i, w.state())
	}
	close(stop)
	t.Logf("node b tried %d times", <-tries)
	w.finish()
	if _, failed := w.counts(); failed > 0 {
		t.Errorf("%d writes failed", failed)
	}
	w.check(t, a.target(id))
	must(t, a.unpublish(id))
}

// settle waits until the next brick may be restarted, as the reconciler does, which cannot see the
// tiebreaker's counters and its connections. GlusterFS' client ends with SIGSEGV when a brick dies under
// writes while the client is not connected to the tiebreaker (10.3 and 11.2, afr_ta_post_op_do).
func (c *cluster) settle(n *node) {
	c.t.Helper()
	if c.bricks.Pool.Tiebreaker == nil {
		return
	}
	begin := time.Now()
	c.bricks.Eventually("the tiebreaker blames no brick", func() bool { return c.bricks.Blamed() == 0 })
	c.t.Logf("the tiebreaker blamed a brick for %s after its heal", time.Since(begin).Round(100*time.Millisecond))
	time.Sleep(time.Until(begin.Add(rollout.SettleTimeTiebreaker)))
	n.connected()
}

// TestTwoBricksAtOnce restarts two of three bricks at the same time. The node has lost its
// volume, and reports that; the next node has everything that was acknowledged.
func TestTwoBricksAtOnce(t *testing.T) {
	t.Parallel()
	c, a, b, id, w := underWriter(t, kinds[0])
	w.progress(t, 200)
	for i := range 2 {
		bricks.Stop(c.bricks.Bricks[i])
	}
	for i := range 2 {
		c.bricks.StartBrick(i)
	}
	isLost(t, a, b, id, w)
}

// isLost checks that the first node has lost its volume to two restarts of bricks.
func isLost(t *testing.T, a, b *node, id string, w *writer) {
	t.Helper()
	w.refusals(t, 1)
	ok, _ := w.counts()
	b.refused(id) // the third brick still has the lock
	a.connected()
	w.refusals(t, 100)
	if now, _ := w.counts(); now != ok {
		t.Errorf("%d writes were acknowledged after the volume was lost", now-ok)
	}
	w.finish()
	must(t, a.unpublish(id)) // as when the pod is deleted
	b.takeOver(id, "")
	w.check(t, b.target(id))
	must(t, b.unpublish(id))
}

// stoppedFor is longer than bricks keep the locks of a node that is silent: 8 s
// (transport.tcp-user-timeout in render/volfile).
const stoppedFor = 16 * time.Second

// TestStopped stops the client of a node for a while, as an overloaded machine does. Its kernel
// still answers the bricks, so that its lock stays, no other node gets the volume, and its writer
// continues afterwards.
func TestStopped(t *testing.T) {
	t.Parallel()
	_, a, b, id, w := underWriter(t, kinds[0])
	w.progress(t, 200)
	client := a.client()
	must(t, unix.Kill(client, unix.SIGSTOP))
	defer unix.Kill(client, unix.SIGCONT)
	for range 4 {
		time.Sleep(stoppedFor / 4)
		b.refused(id)
	}
	must(t, unix.Kill(client, unix.SIGCONT))
	w.progress(t, 100)
	w.finish()
	if _, failed := w.counts(); failed > 0 {
		t.Errorf("%d writes failed", failed)
	}
	w.check(t, a.target(id))
	must(t, a.unpublish(id))
}
