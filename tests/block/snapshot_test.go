package block

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestSnapshots makes snapshots and clones of a volume under a writer that syncs every file. They
// have everything that was synced before, and nothing that was begun after, on every kind of pool,
// whether bricks share content or it is copied.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	three := kind{"three sets of one brick", schema.Replica1, 3, copySize, nil}
	for _, shared := range []bool{true, false} {
		for _, k := range append(kinds, three) {
			if !shared && k.is != schema.Replica3 && k.is != schema.Disperse {
				continue // they copy in the same way
			}
			t.Run(fmt.Sprintf("%s, shared %t", k.name, shared), func(t *testing.T) {
				t.Parallel()
				snapshots(t, startCopies(t, k, shared, "a", "b"), shared)
			})
		}
	}
}

func snapshots(t *testing.T, c *copying, shared bool) {
	t.Helper()
	a, b := c.nodes[0], c.nodes[1]
	id := c.create("pvc-1", "xfs", copySize)
	must(t, a.publish(id, "xfs"))
	must(t, writeSynced(filepath.Join(a.target(id), "ballast"), bytes.Repeat([]byte("ballast!"), 2<<20)))
	w := startFiler(a.target(id))
	w.progress(t, 10)
	before, _ := w.counts()
	begin := time.Now()
	s := c.snapshot("snap-1", id)
	_, after := w.counts()
	t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
	w.progress(t, 10)
	cloneBefore, _ := w.counts()
	clone := c.copied("pvc-3", "xfs", copySize, ofVolume(id))
	_, cloneAfter := w.counts()
	w.progress(t, 10)
	w.finish(t)
	if n := strings.Count(c.h.Logs(), "bricks share a copy's content"); shared != (n > 0) {
		t.Errorf("bricks have shared content %d times", n)
	}
	c.listed()
	c.alike("blocks/snapshots/*/*/snap-1", "blocks/volumes/*/*/pvc-3")
	restored := c.copied("pvc-2", "xfs", 2*copySize, ofSnapshot(s))
	holds := func() {
		t.Helper()
		must(t, b.publish(restored, "xfs"))
		holdsFiles(t, b.target(restored), before, after)
		must(t, b.publish(clone, "xfs")) // two file systems with the same UUID
		holdsFiles(t, b.target(clone), cloneBefore, cloneAfter)
		must(t, errors.Join(b.unpublish(restored), b.unpublish(clone)))
	}
	holds()
	must(t, a.unpublish(id))
	last := c.copied("pvc-4", "xfs", copySize, ofVolume(id)) // of a volume that no node has
	c.remove([]string{id}, s)
	must(t, b.publish(last, "xfs"))
	synced, begun := w.counts()
	holdsFiles(t, b.target(last), synced, begun)
	must(t, writeSynced(filepath.Join(b.target(last), "new"), []byte("text")))
	must(t, b.unpublish(last))
	holds()
	c.remove([]string{restored, clone, last})
	c.empty()
}

// TestSnapshotOfDisperse checks every fragment of a copy: it is read without each of the bricks.
func TestSnapshotOfDisperse(t *testing.T) {
	t.Parallel()
	c := startCopies(t, kind{"", schema.Disperse, 3, copySize, func(p *volfile.Pool) { p.Data, p.Redundancy = 2, 1 }},
		true, "a")
	a := c.nodes[0]
	id := c.create("pvc-1", "", 64<<20)
	must(t, a.publish(id, ""))
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	must(t, writeSynced(a.target(id), content))
	must(t, a.unpublish(id))
	restored := c.copied("pvc-2", "", 64<<20, ofSnapshot(c.snapshot("snap-1", id)))
	if !strings.Contains(c.h.Logs(), "bricks share a copy's content") {
		t.Error("bricks have not shared the content")
	}
	for i := range c.bricks.Bricks {
		bricks.Stop(c.bricks.Bricks[i])
		must(t, a.publish(restored, ""))
		if got, err := readStart(a.target(restored), len(content)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("without brick %d: %v", i, err)
		}
		must(t, a.unpublish(restored))
		c.bricks.StartBrick(i)
		c.bricks.Eventually("all is healed", func() bool { return c.bricks.PendingHeals() == 0 })
		a.connected()
	}
}

// TestSnapshotKilled kills the controller that makes a copy, after which the volume's writers
// continue, and the mounter that has frozen the volume for it, after which they get an error.
// Each time the copy can be made in the end.
func TestSnapshotKilled(t *testing.T) {
	t.Parallel()
	c := startCopies(t, kinds[0], false, "a", "b")
	a, b := c.nodes[0], c.nodes[1]
	id := c.create("pvc-1", "xfs", copySize)
	must(t, a.publish(id, "xfs"))
	ballast := bytes.Repeat([]byte("ballast!"), ballastSize/8)
	must(t, writeSynced(filepath.Join(a.target(id), "ballast"), ballast))
	w := startFiler(a.target(id))
	w.progress(t, 10)

	if _, err := c.trySnapshot("snap-0", id,
		map[string]string{"pauseLimit": "100ms"}); status.Code(err) != codes.FailedPrecondition ||
		!strings.Contains(err.Error(), "pauseLimit") {
		t.Errorf("with too little time to copy: %v", err)
	}
	w.progress(t, 10)
	c.startSnapshot("snap-1", id)
	c.frozen(a, w)
	bricks.Stop(c.process)
	begin := time.Now()
	w.progress(t, 1)
	t.Logf("the writer continued %s after the controller was killed", time.Since(begin).Round(time.Millisecond))
	c.startController()
	before, _ := w.counts()
	first := c.snapshot("snap-1", id)
	_, after := w.counts()
	w.progress(t, 1)
	restored := c.copied("pvc-2", "xfs", copySize, ofSnapshot(first))
	must(t, b.publish(restored, "xfs"))
	holdsFiles(t, b.target(restored), before, after)

	c.startSnapshot("snap-2", id)
	c.frozen(a, w)
	bricks.Stop(a.mounter)
	a.startMounter()
	select {
	case <-w.done:
		t.Logf("the writer got %v after the mounter was killed", w.err)
	case <-time.After(await.Limit):
		t.Fatal("the writer hangs after the mounter was killed")
	}
	must(t, a.unpublish(id))
	b.takeOver(id, "xfs")
	synced, begun := w.counts()
	holdsFiles(t, b.target(id), synced, begun)
}

// ballastSize is the content of a volume that takes a while to copy, in bytes.
const ballastSize = 192 << 20

// frozen waits until a node has frozen the file system of a volume, and its writer waits.
func (c *copying) frozen(n *node, w *filer) {
	c.t.Helper()
	before, same := 0, 0
	c.bricks.Eventually("the file system is frozen", func() bool {
		notes, _ := filepath.Glob(n.h.Path("mounts/.frozen/*")) // written before (csi/blockdev)
		now, _ := w.counts()
		if now != before || len(notes) == 0 {
			before, same = now, 0
		} else {
			same++
		}
		return same == 5
	})
}

// TestSnapshotResumed kills the controller while it copies a volume that no node has. The next one
// resumes the copy.
func TestSnapshotResumed(t *testing.T) {
	t.Parallel()
	c := startCopies(t, kinds[0], false, "a")
	a := c.nodes[0]
	id := c.create("pvc-1", "", copySize)
	must(t, a.publish(id, ""))
	content := bytes.Repeat([]byte("0123456789abcdef"), ballastSize/16)
	must(t, writeSynced(a.target(id), content))
	must(t, a.unpublish(id))
	c.startSnapshot("snap-1", id)
	note := filepath.Join(c.bricks.Pool.Bricks[0].Directory, "blocks/copies/snapshot-snap-1.0")
	c.bricks.Eventually("a part is copied", func() bool {
		out, err := exec.Command("getfattr", "--absolute-names", "--only-values", "-n", "trusted.atoll.copy",
			note).Output()
		return err == nil && !strings.Contains(string(out), `"done":0`)
	})
	bricks.Stop(c.process)
	c.startController()
	restored := c.copied("pvc-2", "", copySize, ofSnapshot(c.snapshot("snap-1", id)))
	line := regexp.MustCompile(`"msg":"copied".*"to":"snapshot/snap-1","bytes":([0-9]+)`)
	copied := line.FindStringSubmatch(c.h.Logs())
	if copied == nil {
		t.Fatal("the next controller copied nothing")
	}
	if n, err := strconv.Atoi(copied[1]); err != nil || n >= copySize {
		t.Errorf("the copy was not resumed: %d bytes were copied", n)
	}
	must(t, a.publish(restored, ""))
	if got, err := readStart(a.target(restored), len(content)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the restored volume: %v", err)
	}
}

// TestSnapshotRaw makes a copy of a volume that is used raw while nothing is written. During
// continuous writes it is refused.
func TestSnapshotRaw(t *testing.T) {
	t.Parallel()
	c := startCopies(t, kinds[0], true, "a")
	a := c.nodes[0]
	id := c.create("pvc-1", "", copySize)
	must(t, a.publish(id, ""))
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	must(t, writeSynced(a.target(id), content))
	s := c.snapshot("snap-1", id)
	w := startWriter("a", a.target(id), copySize)
	w.progress(t, 100)
	var err error
	for i := 2; err == nil && i < 22; i++ { // a busy machine may stop the writer for as long as a copy takes
		_, err = c.trySnapshot(fmt.Sprintf("snap-%d", i), id, nil)
	}
	if status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "written") {
		t.Errorf("snapshots under a writer: %v", err)
	}
	w.finish()
	w.check(t, a.target(id))
	restored := c.copied("pvc-2", "", copySize, ofSnapshot(s))
	must(t, a.publish(restored, ""))
	if got, err := readStart(a.target(restored), len(content)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the restored volume: %v", err)
	}
}
