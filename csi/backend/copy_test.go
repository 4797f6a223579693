package backend

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// large is the size of a volume whose copy has several windows, in bytes.
const large = 3 * copyWindow

// sparse creates a volume with data at random offsets, and returns its content.
func sparse(t *testing.T, b Block, name string) []byte {
	t.Helper()
	c := request(name, large)
	c.FileSystem = "xfs"
	_, err := b.Create(ctx, c)
	must(t, err)
	f, err := b.Root.OpenRDWR(b.Place(name))
	must(t, err)
	defer f.Close()
	all := make([]byte, large)
	for range 20 {
		at, n := rand.IntN(large-3*copyStep), rand.IntN(2*copyStep)
		for i := range n {
			all[at+i] = byte(rand.IntN(256))
		}
		_, err := f.WriteAt(all[at:at+n], int64(at))
		must(t, err)
	}
	must(t, f.Sync())
	return all
}

// fillCopy makes the copy of a source for a key, without publishing it.
func fillCopy(t *testing.T, b Block, key string, s *Source) *Copy {
	t.Helper()
	c, err := b.BeginCopy(key, 0, s)
	must(t, err)
	must(t, c.Fill(ctx, func(int64) {}))
	return c
}

// TestCopies: a snapshot has the content of its volume, keeps it when the volume is written, and
// volumes created from it have it too. No copy fills holes.
func TestCopies(t *testing.T) {
	root, dir := pool(t)
	b := Block{Root: root}
	want := sparse(t, b, "a")
	source, err := b.VolumeSource("a")
	must(t, err)
	if source.Attached || source.Size != large || source.Used == 0 || source.Used >= large {
		t.Fatalf("source %+v", source)
	}
	if _, err := b.Lock("a"); !errors.Is(err, ErrInUse) {
		t.Errorf("locked while it is copied: %v", err)
	}
	c := fillCopy(t, b, SnapshotKey("s"), source)
	if _, err := b.BeginCopy(SnapshotKey("s"), 0, source); !errors.Is(err, ErrCopying) {
		t.Errorf("copied twice at once: %v", err)
	}
	must(t, c.BecomeSnapshot(Snapshot{
		Name: "s", Request: "s", Volume: "a", Size: source.Size, Used: source.Used,
		Created: time.Now(), FileSystem: "xfs",
	}))
	must(t, c.Close())
	must(t, source.Close())
	same(t, filepath.Join(dir, snapshotPlace("s")), want)
	f, err := b.Root.OpenRDWR(b.Place("a"))
	must(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte{7}, copyStep), 0)
	must(t, err)
	must(t, f.Close())
	must(t, b.Delete(ctx, "a"))

	if source, err = b.SnapshotSource("s"); err != nil {
		t.Fatal(err)
	}
	request := request("b", 2*large)
	request.FileSystem, request.Source = "xfs", SnapshotKey("s")
	c = fillCopy(t, b, VolumeKey("b"), source)
	v, err := c.BecomeVolume(request)
	must(t, err)
	must(t, c.Close())
	if v.Size != 2*large || v.Source != "snapshot/s" {
		t.Errorf("volume %+v", v)
	}
	same(t, filepath.Join(dir, b.Place("b")), append(want, make([]byte, large)...))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, b.Place("b")), &st))
	if st.Blocks*512 > source.Used+20*copyHole {
		t.Errorf("the copy uses %d bytes, its source %d", st.Blocks*512, source.Used)
	}
	again, err := b.Create(ctx, request)
	if err != nil || again.Source != request.Source {
		t.Errorf("repeated: %+v, %v", again, err)
	}
	request.Source = ""
	if _, err := b.Create(ctx, request); !errors.Is(err, ErrExists) {
		t.Errorf("requested without a source: %v", err)
	}
	must(t, b.DeleteSnapshot("s"))
	must(t, b.DeleteSnapshot("s"))
	if _, err := b.Snapshot("s"); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("after it was deleted: %v", err)
	}
	must(t, Sweep(ctx, root, schema.Block, logr.Discard()))
	if left := filesBelow(t, dir); len(left) != 1 {
		t.Errorf("files left: %v", left)
	}
}

// TestCopyContinues: an interrupted copy is continued, unless the volume was attached since or
// during the copy.
func TestCopyContinues(t *testing.T) {
	root, dir := pool(t)
	b := Block{Root: root}
	want := sparse(t, b, "a")
	interrupt := func() {
		t.Helper()
		source, err := b.VolumeSource("a")
		must(t, err)
		defer source.Close()
		c, err := b.BeginCopy(SnapshotKey("s"), 0, source)
		must(t, err)
		defer c.Close()
		limit, cancel := context.WithCancel(ctx)
		if err := c.Fill(limit, func(int64) { cancel() }); !errors.Is(err, context.Canceled) {
			t.Fatalf("it was not interrupted: %v", err)
		}
	}
	begin := func(attached, shared bool) (done int64) {
		t.Helper()
		source, err := b.VolumeSource("a")
		must(t, err)
		defer source.Close()
		source.Attached, source.Shared = source.Attached || attached, shared
		c, err := b.BeginCopy(SnapshotKey("s"), 0, source)
		must(t, err)
		defer c.Close()
		return c.Done
	}
	interrupt()
	if done := begin(false, false); done != copyWindow {
		t.Errorf("continued at %d", done)
	}
	must(t, attach(b))
	if done := begin(false, false); done != 0 {
		t.Errorf("after the volume was attached: continued at %d", done)
	}
	interrupt()
	if done := begin(true, false); done != 0 {
		t.Errorf("while the volume is attached: continued at %d", done)
	}
	if done := begin(false, false); done != 0 {
		t.Errorf("after it was copied while it was attached: continued at %d", done)
	}
	interrupt()
	if done := begin(false, true); done != 0 {
		t.Errorf("of a shared volume: continued at %d", done)
	}
	interrupt()
	source, err := b.VolumeSource("a")
	must(t, err)
	c := fillCopy(t, b, SnapshotKey("s"), source)
	must(t, c.BecomeSnapshot(Snapshot{Name: "s", Volume: "a", Size: large, Created: time.Now()}))
	must(t, errors.Join(c.Close(), source.Close()))
	same(t, filepath.Join(dir, snapshotPlace("s")), want)
}

// TestSourceUnchanged detects that a volume was attached while it was copied, because the pool
// lost its lock.
func TestSourceUnchanged(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	_, err := b.Create(ctx, request("a", 100))
	must(t, err)
	source, err := b.VolumeSource("a")
	must(t, err)
	defer source.Close()
	if is, err := source.Unchanged(); err != nil || !is {
		t.Errorf("before: %t, %v", is, err)
	}
	must(t, ofd.Unlock(source.file)) // as when the pool loses it
	must(t, attach(b))
	if is, err := source.Unchanged(); err != nil || is {
		t.Errorf("after it was attached: %t, %v", is, err)
	}
}

// TestSweepLeftovers removes abandoned copies and freeze requests, and keeps copies that a call works
// on.
func TestSweepLeftovers(t *testing.T) {
	root, dir := pool(t)
	b := Block{Root: root}
	sparse(t, b, "a")
	source, err := b.VolumeSource("a")
	must(t, err)
	c, err := b.BeginCopy(SnapshotKey("s"), 0, source)
	must(t, err)
	freeze, err := b.RequestFreeze("a")
	must(t, err)
	must(t, b.SweepLeftovers(logr.Discard()))
	if left := filesBelow(t, dir); len(left) != 3 {
		t.Errorf("files left: %v", left)
	}
	later := b
	later.Now = func() time.Time { return time.Now().Add(2 * copyMaxAge) }
	must(t, later.SweepLeftovers(logr.Discard()))
	if left := filesBelow(t, dir); len(left) != 2 { // the copy is locked
		t.Errorf("files left later: %v", left)
	}
	must(t, errors.Join(c.Close(), freeze.Withdraw(), source.Close()))
	must(t, b.SweepLeftovers(logr.Discard()))
	must(t, b.Delete(ctx, "a"))
	must(t, Sweep(ctx, root, schema.Block, logr.Discard()))
	must(t, b.SweepLeftovers(logr.Discard())) // the copy's source no longer exists
	if left := filesBelow(t, dir); len(left) != 0 {
		t.Errorf("files left at the end: %v", left)
	}
}

// TestFreezeRequest: the node reads what the controller writes, and the reverse.
func TestFreezeRequest(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	sent, err := b.RequestFreeze("a")
	must(t, err)
	requests, err := b.FreezeRequests()
	if err != nil || len(requests) != 1 {
		t.Fatalf("requests %v, %v", requests, err)
	}
	for id, volume := range requests {
		received, err := b.OpenFreezeRequest(id)
		must(t, err)
		defer received.Close()
		first, err := received.Read()
		must(t, err)
		must(t, sent.MarkCopied())
		if second, err := received.Read(); err != nil || volume != "a" || second.Heartbeat <= first.Heartbeat ||
			first.Copied || !second.Copied {
			t.Errorf("volume %s: %+v, then %+v, %v", volume, first, second, err)
		}
		if a, err := sent.Status(); err != nil || a.State != "" {
			t.Errorf("before the first status: %+v, %v", a, err)
		}
		must(t, received.Reply(ondisk.FreezeStatus{Node: "n", State: ondisk.Stopped}))
		if a, err := sent.Status(); err != nil || a.State != ondisk.Stopped || a.Node != "n" {
			t.Errorf("status %+v, %v", a, err)
		}
	}
	must(t, sent.Withdraw())
	if requests, err := b.FreezeRequests(); err != nil || len(requests) != 0 {
		t.Errorf("requests %v, %v", requests, err)
	}
}

func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes that differ from the expected %d: %v", path, len(got), len(want), err)
	}
}

func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// takeSnapshot does all steps of a snapshot, for TestKilledAtEverySystemCall.
func takeSnapshot(root *safepath.Dir) error {
	b := Block{Root: root}
	if _, err := b.Snapshot("s"); err == nil {
		return nil
	}
	source, err := b.VolumeSource("a")
	if err != nil {
		return err
	}
	c, err := b.BeginCopy(SnapshotKey("s"), 0, source)
	if err != nil {
		return err
	}
	if err := c.Fill(ctx, func(int64) {}); err != nil {
		return err
	}
	return errors.Join(c.BecomeSnapshot(Snapshot{Name: "s", Request: "s", Volume: "a", Size: 100, FileSystem: "xfs"}),
		c.Close(), source.Close())
}

// restoreSnapshot does all steps of a restored volume.
func restoreSnapshot(root *safepath.Dir) error {
	b := Block{Root: root}
	if _, err := b.Get(ctx, "b"); err == nil {
		return nil
	}
	source, err := b.SnapshotSource("s")
	if err != nil {
		return err
	}
	c, err := b.BeginCopy(VolumeKey("b"), 0, source)
	if err != nil {
		return err
	}
	if err := c.Fill(ctx, func(int64) {}); err != nil {
		return err
	}
	request := request("a", 200)
	request.Name = "b"
	request.FileSystem, request.Source = "xfs", SnapshotKey("s")
	_, err = c.BecomeVolume(request)
	return errors.Join(err, c.Close())
}
