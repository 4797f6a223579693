package block

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// startCopies starts a pool of a kind, with nodes: with agents on a file system that shares
// content, or without.
func startCopies(t *testing.T, k kind, shared bool, names ...string) *copying {
	t.Helper()
	shape := k.shape
	if shared {
		k.shape = func(p *volfile.Pool) {
			if shape != nil {
				shape(p)
			}
			bricks.OnXFS(t, p)
		}
	}
	c := &copying{cluster: startKind(t, k, names...), h: host.Bare(t)}
	_, c.h.Network = c.add()
	keys := t.TempDir()
	if shared {
		keys = bricks.Keys(t)
		c.bricks.StartAgents(c.h.Build("atoll-brick"), keys)
	}
	c.bricks.Catalog(c.h.Catalog(), schema.Block)
	c.args = []string{"--endpoint", "unix://" + c.h.Path("controller.sock"), "--mounts", c.h.Path("controller-mounts"), "--agent-keys", keys}
	c.startController()
	return c
}

// copying is a cluster with a controller that agents know, and that can be killed.
type copying struct {
	*cluster
	h       *host.Host // of the controller
	process *exec.Cmd
	args    []string
}

func (c *copying) startController() {
	c.process = c.h.Start("controller", c.args...)
	c.controller = csi.NewControllerClient(c.h.Dial("controller.sock"))
}

// filer writes files into a folder, one after the other, each synced with its folder before
// the next, until it is finished or gets an error.
type filer struct {
	dir  string
	stop chan struct{}
	done chan struct{}

	mu      sync.Mutex
	synced  int // files
	begun   int
	longest time.Duration
	err     error
}

func startFiler(dir string) *filer {
	f := &filer{dir: dir, stop: make(chan struct{}), done: make(chan struct{})}
	go f.run()
	return f
}

func (f *filer) run() {
	defer close(f.done)
	for n := 1; ; n++ {
		select {
		case <-f.stop:
			return
		default:
		}
		f.mu.Lock()
		f.begun = n
		f.mu.Unlock()
		begin := time.Now()
		err := writeSynced(filepath.Join(f.dir, fmt.Sprint(n)), fileText(n))
		f.mu.Lock()
		f.longest = max(f.longest, time.Since(begin))
		if f.err = err; err == nil {
			f.synced = n
		}
		f.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func fileText(n int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%08d", n)), 1024) }

// counts gives how many files are synced, and how many were begun.
func (f *filer) counts() (synced, begun int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.synced, f.begun
}

// after waits until some more files are synced.
func (f *filer) after(t *testing.T, more int) {
	t.Helper()
	from, _ := f.counts()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if now, _ := f.counts(); now >= from+more {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the writer does not go on: %v", f.err)
		}
	}
}

// finish ends the writer, which must not have seen an error.
func (f *filer) finish(t *testing.T) {
	t.Helper()
	close(f.stop)
	<-f.done
	if f.err != nil {
		t.Errorf("the writer: %v", f.err)
	}
	t.Logf("%d files written, the longest took %s", f.synced, f.longest.Round(time.Millisecond))
}

// holdsFiles holds that a folder has all files up to one number, whole, and none after another.
func holdsFiles(t *testing.T, dir string, all, none int) {
	t.Helper()
	for n := 1; n <= none+100; n++ {
		got, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(n)))
		switch {
		case n <= all && (err != nil || !bytes.Equal(got, fileText(n))):
			t.Errorf("file %d of %d has %d bytes: %v", n, all, len(got), err)
			return
		case n > none && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("file %d was begun after the copy was ready, at %d: %v", n, none, err)
			return
		}
	}
}

// copySize is that of volumes that are copied here, in bytes: little more than XFS needs.
const copySize = 320 << 20

// copyLimit is how long a call may take.
const copyLimit = 2 * time.Minute

// snapshot makes a snapshot, and gives its ID. As sidecars do, it asks again when nobody was
// there to answer, or somebody who was killed has not gone yet.
func (c *copying) snapshot(name, of string) (id string) {
	c.t.Helper()
	for range 10 {
		id, err := c.trySnapshot(name, of, nil)
		if err == nil {
			return id
		}
		if code := status.Code(err); code != codes.Unavailable && code != codes.Aborted {
			c.t.Fatal(err)
		}
		c.t.Log(err)
		time.Sleep(time.Second)
	}
	c.t.Fatal("there is no snapshot")
	return ""
}

func (c *copying) trySnapshot(name, of string, parameters map[string]string) (id string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), copyLimit)
	defer cancel()
	made, err := c.controller.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: of, Parameters: parameters})
	return made.GetSnapshot().GetSnapshotId(), err
}

// copied makes a volume of a snapshot or of another volume.
func (c *copying) copied(name, fileSystem string, size int64, from *csi.VolumeContentSource) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), copyLimit)
	defer cancel()
	made, err := c.controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, VolumeCapabilities: []*csi.VolumeCapability{capability(fileSystem)}, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		Parameters: map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"}, VolumeContentSource: from,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return made.GetVolume().GetVolumeId()
}

func ofSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func ofVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

// remove deletes volumes and snapshots.
func (c *copying) remove(volumes []string, snapshots ...string) {
	c.t.Helper()
	for _, id := range volumes {
		_, err := c.controller.DeleteVolume(context.Background(), deletion(id))
		must(c.t, err)
	}
	for _, id := range snapshots {
		_, err := c.controller.DeleteSnapshot(context.Background(), &csi.DeleteSnapshotRequest{SnapshotId: id})
		must(c.t, err)
	}
}

// bare waits until the bricks have no file any more.
func (c *copying) bare() {
	c.t.Helper()
	c.bricks.Eventually(30*time.Second, "the bricks have nothing", func() bool {
		for _, b := range c.bricks.Pool.Bricks {
			left, err := exec.Command("find", filepath.Join(b.Directory, "blocks"), "-type", "f").Output()
			if err != nil || len(left) > 0 {
				return false
			}
		}
		return true
	})
}

// TestSnapshots takes snapshots and clones of a volume under a writer that syncs every file:
// all that was synced before is there, nothing that was begun after, on every kind of pool,
// whether bricks share content or it is copied.
func TestSnapshots(t *testing.T) {
	three := kind{"three sets of one brick", schema.Replica1, 3, copySize, nil}
	for _, shared := range []bool{true, false} {
		for _, k := range append(kinds, three) {
			if !shared && k.is != schema.Replica3 && k.is != schema.Disperse {
				continue // it is the same way through the mount
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
	must(t, a.take(t.Context(), id, "xfs"))
	must(t, writeSynced(filepath.Join(a.target(id), "ballast"), bytes.Repeat([]byte("ballast!"), 2<<20)))
	w := startFiler(a.target(id))
	w.after(t, 10)
	before, _ := w.counts()
	begin := time.Now()
	s := c.snapshot("snap-1", id)
	_, after := w.counts()
	t.Logf("ready after %s", time.Since(begin).Round(time.Millisecond))
	w.after(t, 10)
	cloneBefore, _ := w.counts()
	clone := c.copied("pvc-3", "xfs", copySize, ofVolume(id))
	_, cloneAfter := w.counts()
	w.after(t, 10)
	w.finish(t)
	if said := strings.Count(c.h.Logs(), "bricks share a copy's content"); shared != (said > 0) {
		t.Errorf("bricks have shared content %d times", said)
	}
	c.listed()
	c.alike("blocks/snapshots/*/*/snap-1", "blocks/volumes/*/*/pvc-3")
	restored := c.copied("pvc-2", "xfs", 2*copySize, ofSnapshot(s))
	holds := func() {
		t.Helper()
		must(t, b.take(t.Context(), restored, "xfs"))
		holdsFiles(t, b.target(restored), before, after)
		must(t, b.take(t.Context(), clone, "xfs")) // two with one UUID, beside each other
		holdsFiles(t, b.target(clone), cloneBefore, cloneAfter)
		must(t, errors.Join(b.give(restored), b.give(clone)))
	}
	holds()
	must(t, a.give(id))
	last := c.copied("pvc-4", "xfs", copySize, ofVolume(id)) // nobody has it
	c.remove([]string{id}, s)
	must(t, b.take(t.Context(), last, "xfs"))
	synced, begun := w.counts()
	holdsFiles(t, b.target(last), synced, begun)
	must(t, writeSynced(filepath.Join(b.target(last), "its own"), []byte("text")))
	must(t, b.give(last))
	holds()
	c.remove([]string{restored, clone, last})
	c.bare()
}

// listed holds that people are shown the snapshot, and what a clone is of.
func (c *copying) listed() {
	c.t.Helper()
	out, err := exec.Command("nsenter", "--net="+c.h.Network, c.h.Build("atoll"), "volumes", "--catalog", c.h.Path("catalog"), "list", "p", "-o", "json").Output()
	var all struct {
		Volumes   []struct{ Name, Source string }
		Snapshots []struct{ Name, Volume string }
	}
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil || len(all.Snapshots) != 1 || all.Snapshots[0].Name != "snap-1" || all.Snapshots[0].Volume != "pvc-1" || len(all.Volumes) != 2 || all.Volumes[1].Source != "volume/pvc-1" {
		c.t.Errorf("listed %s, %v", out, err)
	}
}

// alike holds that all bricks that have the content of a file have the same.
func (c *copying) alike(patterns ...string) {
	c.t.Helper()
	if c.bricks.Pool.Type == schema.Disperse {
		return // each has a part of it
	}
	for _, pattern := range patterns {
		sums := map[string][]string{}
		for _, b := range c.bricks.Pool.Bricks {
			found, _ := filepath.Glob(filepath.Join(b.Directory, pattern))
			for _, path := range found {
				info, err := os.Stat(path)
				if err != nil || info.Size() == 0 {
					continue // an arbiter's, or a pointer to another set
				}
				out, err := exec.Command("sha1sum", path).Output()
				must(c.t, err)
				sum, _, _ := strings.Cut(string(out), " ")
				sums[sum] = append(sums[sum], path)
			}
		}
		if len(sums) != 1 {
			c.t.Errorf("the bricks have %v", sums)
		}
	}
}

// TestSnapshotOfDisperse holds that every part of a copy is right: read with each brick away.
func TestSnapshotOfDisperse(t *testing.T) {
	t.Parallel()
	c := startCopies(t, kind{"", schema.Disperse, 3, copySize, func(p *volfile.Pool) { p.Data, p.Redundancy = 2, 1 }}, true, "a")
	a := c.nodes[0]
	id := c.create("pvc-1", "", 64<<20)
	must(t, a.take(t.Context(), id, ""))
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	must(t, writeSynced(a.target(id), content))
	must(t, a.give(id))
	restored := c.copied("pvc-2", "", 64<<20, ofSnapshot(c.snapshot("snap-1", id)))
	if !strings.Contains(c.h.Logs(), "bricks share a copy's content") {
		t.Error("bricks have not shared the content")
	}
	for i := range c.bricks.Bricks {
		bricks.Stop(c.bricks.Bricks[i])
		must(t, a.take(t.Context(), restored, ""))
		if got, err := readStart(a.target(restored), len(content)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("without brick %d: %v", i, err)
		}
		must(t, a.give(restored))
		c.bricks.StartBrick(i)
		c.bricks.Eventually(30*time.Second, "nothing is to be healed", func() bool { return c.bricks.PendingHeals() == 0 })
		time.Sleep(4 * time.Second) // until clients are connected to it, which they try each three seconds
	}
}

// TestSnapshotKilled kills who makes a copy, and who stopped the volume for it: the volume
// goes on, or its writers get an error, and the copy is made in the end.
func TestSnapshotKilled(t *testing.T) {
	t.Parallel()
	c := startCopies(t, kinds[0], false, "a", "b")
	a, b := c.nodes[0], c.nodes[1]
	id := c.create("pvc-1", "xfs", copySize)
	must(t, a.take(t.Context(), id, "xfs"))
	ballast := bytes.Repeat([]byte("ballast!"), ballastSize/8)
	must(t, writeSynced(filepath.Join(a.target(id), "ballast"), ballast))
	w := startFiler(a.target(id))
	w.after(t, 10)

	if _, err := c.trySnapshot("snap-0", id, map[string]string{"pauseLimit": "100ms"}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "pauseLimit") {
		t.Errorf("with no time to copy: %v", err)
	}
	w.after(t, 10)
	go c.trySnapshot("snap-1", id, nil)
	c.whenStopped(w)
	bricks.Stop(c.process)
	begin := time.Now()
	w.after(t, 1)
	t.Logf("the writer goes on %s after the controller was killed", time.Since(begin).Round(time.Millisecond))
	c.startController()
	before, _ := w.counts()
	first := c.snapshot("snap-1", id)
	_, after := w.counts()
	w.after(t, 1)
	restored := c.copied("pvc-2", "xfs", copySize, ofSnapshot(first))
	must(t, b.take(t.Context(), restored, "xfs"))
	holdsFiles(t, b.target(restored), before, after)

	go c.trySnapshot("snap-2", id, nil)
	c.whenStopped(w)
	bricks.Stop(a.mounter)
	a.startMounter()
	select {
	case <-w.done:
		t.Logf("the writer sees %v when the mount holder was killed", w.err)
	case <-time.After(30 * time.Second):
		t.Fatal("the writer waits for ever, after the mount holder was killed")
	}
	must(t, a.give(id))
	b.takeWithin(30*time.Second, id, "xfs")
	synced, begun := w.counts()
	holdsFiles(t, b.target(id), synced, begun)
}

// ballastSize is what a volume has so that copying it takes a while, in bytes.
const ballastSize = 192 << 20

// whenStopped waits until a writer has written nothing for a while.
func (c *copying) whenStopped(w *filer) {
	c.t.Helper()
	c.bricks.Eventually(30*time.Second, "the writer waits", func() bool {
		before, _ := w.counts()
		time.Sleep(500 * time.Millisecond)
		now, _ := w.counts()
		return now == before
	})
}

// TestSnapshotGoesOn kills the controller while it copies a volume that nobody has: it goes
// on where it was.
func TestSnapshotGoesOn(t *testing.T) {
	t.Parallel()
	c := startCopies(t, kinds[0], false, "a")
	a := c.nodes[0]
	id := c.create("pvc-1", "", copySize)
	must(t, a.take(t.Context(), id, ""))
	content := bytes.Repeat([]byte("0123456789abcdef"), ballastSize/16)
	must(t, writeSynced(a.target(id), content))
	must(t, a.give(id))
	go c.trySnapshot("snap-1", id, nil)
	note := filepath.Join(c.bricks.Pool.Bricks[0].Directory, "blocks/copies/snapshot-snap-1.0")
	c.bricks.Eventually(30*time.Second, "a part is copied", func() bool {
		out, err := exec.Command("getfattr", "--absolute-names", "--only-values", "-n", "trusted.atoll.copy", note).Output()
		return err == nil && !strings.Contains(string(out), `"done":0`)
	})
	bricks.Stop(c.process)
	c.startController()
	restored := c.copied("pvc-2", "", copySize, ofSnapshot(c.snapshot("snap-1", id)))
	copied := regexp.MustCompile(`"msg":"copied".*"to":"snapshot/snap-1","bytes":([0-9]+)`).FindStringSubmatch(c.h.Logs())
	if copied == nil {
		t.Fatal("it was not copied")
	}
	if n, err := strconv.Atoi(copied[1]); err != nil || n >= copySize {
		t.Errorf("it was not gone on with: %d bytes were copied", n)
	}
	must(t, a.take(t.Context(), restored, ""))
	if got, err := readStart(a.target(restored), len(content)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("restored: %v", err)
	}
}

// TestSnapshotRaw: of a volume that is used raw, a copy is made when nothing is written for a
// moment, and refused while something is all the time.
func TestSnapshotRaw(t *testing.T) {
	t.Parallel()
	c := startCopies(t, kinds[0], true, "a")
	a := c.nodes[0]
	id := c.create("pvc-1", "", copySize)
	must(t, a.take(t.Context(), id, ""))
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	must(t, writeSynced(a.target(id), content))
	s := c.snapshot("snap-1", id)
	w := startWriter("a", a.target(id), copySize)
	time.Sleep(time.Second)
	if _, err := c.trySnapshot("snap-2", id, nil); status.Code(err) != codes.Aborted || !strings.Contains(err.Error(), "written") {
		t.Errorf("under a writer: %v", err)
	}
	w.finish()
	w.check(t, a.target(id))
	restored := c.copied("pvc-2", "", copySize, ofSnapshot(s))
	must(t, a.take(t.Context(), restored, ""))
	if got, err := readStart(a.target(restored), len(content)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("restored: %v", err)
	}
}
