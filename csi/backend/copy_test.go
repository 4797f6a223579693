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

// spotted makes a volume with data here and there, and gives what is in it.
func spotted(t *testing.T, b Block, name string) []byte {
	t.Helper()
	c := claim(name, large)
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

// copyTo copies a source to what a key names, up to before it gets its name.
func copyTo(t *testing.T, b Block, key string, s *Source) *Copy {
	t.Helper()
	c, err := b.BeginCopy(key, 0, s)
	must(t, err)
	must(t, c.Fill(ctx, func(int64) {}))
	return c
}

// TestCopies: a snapshot has what the volume had, keeps it when that is written, and gives it
// to volumes that are made of it, all of them without holes being filled.
func TestCopies(t *testing.T) {
	root, dir := pool(t)
	b := Block{Root: root}
	want := spotted(t, b, "a")
	source, err := b.VolumeSource("a")
	must(t, err)
	if source.Held || source.Size != large || source.Used == 0 || source.Used >= large {
		t.Fatalf("source %+v", source)
	}
	if _, err := b.Lock("a"); !errors.Is(err, ErrInUse) {
		t.Errorf("taken while it is copied: %v", err)
	}
	c := copyTo(t, b, SnapshotKey("s"), source)
	if _, err := b.BeginCopy(SnapshotKey("s"), 0, source); !errors.Is(err, ErrCopying) {
		t.Errorf("two make one copy: %v", err)
	}
	must(t, c.BecomeSnapshot(Snapshot{Name: "s", Request: "s", Volume: "a", Size: source.Size, Used: source.Used, Created: time.Now(), FileSystem: "xfs"}))
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
	claim := claim("b", 2*large)
	claim.FileSystem, claim.Source = "xfs", SnapshotKey("s")
	c = copyTo(t, b, VolumeKey("b"), source)
	v, err := c.BecomeVolume(claim)
	must(t, err)
	must(t, c.Close())
	if v.Size != 2*large || v.Source != "snapshot/s" {
		t.Errorf("volume %+v", v)
	}
	same(t, filepath.Join(dir, b.Place("b")), append(want, make([]byte, large)...))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, b.Place("b")), &st))
	if st.Blocks*512 > source.Used+20*copyHole {
		t.Errorf("the copy takes %d bytes, its source %d", st.Blocks*512, source.Used)
	}
	again, err := b.Create(ctx, claim)
	if err != nil || again.Source != claim.Source {
		t.Errorf("made again: %+v, %v", again, err)
	}
	claim.Source = ""
	if _, err := b.Create(ctx, claim); !errors.Is(err, ErrExists) {
		t.Errorf("made again, empty: %v", err)
	}
	must(t, b.DeleteSnapshot("s"))
	must(t, b.DeleteSnapshot("s"))
	if _, err := b.Snapshot("s"); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("after it was deleted: %v", err)
	}
	must(t, Sweep(ctx, root, schema.Block, logr.Discard()))
	if left := filesBelow(t, dir); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
}

// TestCopyGoesOn: what was cut off is gone on with, unless somebody has had the volume since,
// or had it all the time.
func TestCopyGoesOn(t *testing.T) {
	root, dir := pool(t)
	b := Block{Root: root}
	want := spotted(t, b, "a")
	cutOff := func() {
		t.Helper()
		source, err := b.VolumeSource("a")
		must(t, err)
		defer source.Close()
		c, err := b.BeginCopy(SnapshotKey("s"), 0, source)
		must(t, err)
		defer c.Close()
		limit, cancel := context.WithCancel(ctx)
		if err := c.Fill(limit, func(int64) { cancel() }); !errors.Is(err, context.Canceled) {
			t.Fatalf("it was not cut off: %v", err)
		}
	}
	begin := func(held bool, shared ...bool) (done int64) {
		t.Helper()
		source, err := b.VolumeSource("a")
		must(t, err)
		defer source.Close()
		source.Held, source.Shared = source.Held || held, len(shared) > 0
		c, err := b.BeginCopy(SnapshotKey("s"), 0, source)
		must(t, err)
		defer c.Close()
		return c.Done
	}
	cutOff()
	if done := begin(false); done != copyWindow {
		t.Errorf("it goes on at %d", done)
	}
	must(t, attach(b))
	if done := begin(false); done != 0 {
		t.Errorf("after somebody had it, it goes on at %d", done)
	}
	cutOff()
	if done := begin(true); done != 0 {
		t.Errorf("while somebody has it, it goes on at %d", done)
	}
	if done := begin(false); done != 0 {
		t.Errorf("after it was copied while somebody had it, it goes on at %d", done)
	}
	cutOff()
	if done := begin(false, true); done != 0 {
		t.Errorf("of a volume that several nodes may have had, it goes on at %d", done)
	}
	cutOff()
	source, err := b.VolumeSource("a")
	must(t, err)
	c := copyTo(t, b, SnapshotKey("s"), source)
	must(t, c.BecomeSnapshot(Snapshot{Name: "s", Volume: "a", Size: large, Created: time.Now()}))
	must(t, errors.Join(c.Close(), source.Close()))
	same(t, filepath.Join(dir, snapshotPlace("s")), want)
}

// TestUntaken: a volume that was taken while it was copied, because its lock did not hold, is
// known to be.
func TestUntaken(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	_, err := b.Create(ctx, claim("a", 100))
	must(t, err)
	source, err := b.VolumeSource("a")
	must(t, err)
	defer source.Close()
	if is, err := source.Unchanged(); err != nil || !is {
		t.Errorf("before: %t, %v", is, err)
	}
	must(t, ofd.Unlock(source.file)) // as a pool does that loses it
	must(t, attach(b))
	if is, err := source.Unchanged(); err != nil || is {
		t.Errorf("after somebody had it: %t, %v", is, err)
	}
}

// TestSweepLeft: what was cut off and is not gone on with does not stay for ever, and what
// somebody works on does.
func TestSweepLeft(t *testing.T) {
	root, dir := pool(t)
	b := Block{Root: root}
	spotted(t, b, "a")
	source, err := b.VolumeSource("a")
	must(t, err)
	c, err := b.BeginCopy(SnapshotKey("s"), 0, source)
	must(t, err)
	ask, err := b.RequestFreeze("a")
	must(t, err)
	must(t, b.SweepLeft(logr.Discard()))
	if left := filesBelow(t, dir); len(left) != 3 {
		t.Errorf("left are %v", left)
	}
	later := b
	later.Now = func() time.Time { return time.Now().Add(2 * copyLeft) }
	must(t, later.SweepLeft(logr.Discard()))
	if left := filesBelow(t, dir); len(left) != 2 { // the copy has its lock
		t.Errorf("later, left are %v", left)
	}
	must(t, errors.Join(c.Close(), ask.Withdraw(), source.Close()))
	must(t, b.SweepLeft(logr.Discard()))
	must(t, b.Delete(ctx, "a"))
	must(t, Sweep(ctx, root, schema.Block, logr.Discard()))
	must(t, b.SweepLeft(logr.Discard())) // its source has gone
	if left := filesBelow(t, dir); len(left) != 0 {
		t.Errorf("in the end, left are %v", left)
	}
}

// TestAsk: what one side writes, the other one reads.
func TestAsk(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	ask, err := b.RequestFreeze("a")
	must(t, err)
	asks, err := b.FreezeRequests()
	if err != nil || len(asks) != 1 {
		t.Fatalf("asks %v, %v", asks, err)
	}
	for name, of := range asks {
		asked, err := b.OpenFreezeRequest(name)
		must(t, err)
		defer asked.Close()
		first, err := asked.Read()
		must(t, err)
		must(t, ask.MarkCopied())
		if second, err := asked.Read(); err != nil || of != "a" || second.Heartbeat <= first.Heartbeat || first.Copied || !second.Copied {
			t.Errorf("of %s: %+v, then %+v, %v", of, first, second, err)
		}
		if a, err := ask.Status(); err != nil || a.State != "" {
			t.Errorf("before there is an answer: %+v, %v", a, err)
		}
		must(t, asked.Reply(ondisk.FreezeStatus{Node: "n", State: ondisk.Stopped}))
		if a, err := ask.Status(); err != nil || a.State != ondisk.Stopped || a.Node != "n" {
			t.Errorf("answer %+v, %v", a, err)
		}
	}
	must(t, ask.Withdraw())
	if asks, err := b.FreezeRequests(); err != nil || len(asks) != 0 {
		t.Errorf("asks %v, %v", asks, err)
	}
}

func same(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, not the %d that are wanted: %v", path, len(got), len(want), err)
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

// snapshotOf does all steps of a snapshot, or of a restored volume, for the test of kills.
func snapshotOf(root *safepath.Dir) error {
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
	return errors.Join(c.BecomeSnapshot(Snapshot{Name: "s", Request: "s", Volume: "a", Size: 100, FileSystem: "xfs"}), c.Close(), source.Close())
}

func restored(root *safepath.Dir) error {
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
	claim := claim("a", 200)
	claim.Name = "b"
	claim.FileSystem, claim.Source = "xfs", SnapshotKey("s")
	_, err = c.BecomeVolume(claim)
	return errors.Join(err, c.Close())
}
