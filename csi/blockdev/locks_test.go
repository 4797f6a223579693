package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// fakePool is a pool with a brick that has restarted and lacks the locks of open files. The
// client reopens the files there when it reloads its graph.
type fakePool struct {
	graph    string
	lost     int
	files    int // open on the other brick
	open     int // more files than on the other brick
	onReload func()
	err      error // of Connections
	ended    error // of Running
}

func (b *fakePool) Root(context.Context, catalog.Pool, schema.Layout) (string, error) {
	return "", errors.New("unexpected: no volume is attached in this test")
}

func (b *fakePool) Running(catalog.Pool, schema.Layout) (string, error) {
	return "", b.ended
}

func (b *fakePool) Connections(catalog.Pool, schema.Layout) (string, []gluster.Connection, error) {
	return b.graph, []gluster.Connection{
		{Brick: 0, Connected: true, Open: b.files},
		{Brick: 1, Connected: true, Lost: b.lost, Open: b.files + b.open},
	}, b.err
}

func (b *fakePool) ReloadGraph(context.Context, catalog.Pool, schema.Layout) error {
	b.lost = 0
	b.onReload()
	return nil
}

// testbed is a Manager of volumes that are files of this machine.
type testbed struct {
	*Manager
	t     *testing.T
	dir   string
	pools *fakePool
}

func newTestbed(t *testing.T, kind schema.Type) *testbed {
	dir := t.TempDir()
	pools := &fakePool{graph: "graph", lost: 1}
	m := &Manager{
		Pools: pools, Catalog: catalog.Folder{Dir: filepath.Join(dir, "catalog")}, Log: logr.Discard(),
		attachments: map[string]*attachment{},
	}
	text, err := entry.Encode(entry.Entry{
		Pool: "p", Namespace: "n", Type: kind, Layouts: []schema.Layout{schema.Block},
		SetSize: 2, Bricks: []entry.Brick{{Host: "h"}, {Host: "i"}},
	})
	if err == nil {
		_, err = m.Catalog.Write("p", map[string]string{entry.KeyEntry: string(text), entry.KeyBlocks: "volume x"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return &testbed{m, t, dir, pools}
}

// addVolume is Attach without the lock and the device.
func (b *testbed) addVolume(name string) *attachment {
	b.t.Helper()
	p, err := b.Catalog.Pool("p")
	a := &attachment{pool: "p", name: name, of: p}
	if err == nil {
		err = b.initLocks(p, a)
	}
	if err == nil {
		a.device, err = os.Create(filepath.Join(b.dir, name)) // any file
	}
	if err != nil {
		b.t.Fatal(err)
	}
	device := a.device
	b.t.Cleanup(func() { device.Close() })
	a.locked = &backend.LockedVolume{File: a.device}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attachments["p/"+name] = a
	b.pools.files++
	return a
}

// keepOnce is one run of KeepLocks.
func (b *testbed) keepOnce() {
	b.t.Helper()
	if err := b.keepPool(b.t.Context(), "p", b.byPool()["p"]); err != nil {
		b.t.Fatal(err)
	}
}

// TestReloadUntilFilesAreOpen reloads the graph again if the client did not reopen all files on
// the brick that has returned.
func TestReloadUntilFilesAreOpen(t *testing.T) {
	b := newTestbed(t, schema.Replica3)
	reloads := 0
	b.pools.onReload = func() {
		reloads++
		b.pools.open = min(0, reloads-2)
	}
	b.addVolume("a")
	for range 4 {
		b.keepOnce()
	}
	if reloads != 2 {
		t.Errorf("the graph was reloaded %d times, want 2", reloads)
	}
}

// TestLocksOfFormerGraph requests locks again that were requested before the client had opened the
// files in its new graph: those end with the former graph.
func TestLocksOfFormerGraph(t *testing.T) {
	b := newTestbed(t, schema.Replica3)
	a := b.addVolume("a")
	b.pools.onReload = func() { b.pools.files = 0 }
	b.keepOnce()
	b.pools.files = 1
	if err := ofd.Unlock(a.locked.File); err != nil {
		t.Fatal(err)
	}
	b.keepOnce()
	other, err := os.OpenFile(a.locked.File.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if held, err := ofd.Locked(other); err != nil || !held {
		t.Errorf("the volume is locked: %t, %v; want true", held, err)
	}
}

// TestGraphUnreadable keeps volumes while the graph of the mount cannot be read, as while it
// switches to another one, and while the catalog does not have the pool. Volumes of a Disperse
// pool, whose locks end with the graph, and those of a client that has ended are lost.
func TestGraphUnreadable(t *testing.T) {
	changing := fmt.Errorf("read: %w: %w", gluster.ErrGraphChanging, os.ErrNotExist)
	for _, c := range []struct {
		kind  schema.Type
		err   error
		ended error
		lost  bool
	}{
		{schema.Replica3, changing, nil, false},
		{schema.Disperse, changing, nil, true},
		{schema.Replica3, unix.EIO, nil, false},
		{schema.Disperse, unix.EIO, nil, false},
		{schema.Replica3, unix.ENOTCONN, errors.New("ended"), true},
	} {
		b := newTestbed(t, c.kind)
		a := b.addVolume("a")
		b.pools.err, b.pools.ended = c.err, c.ended
		if err := b.Catalog.Remove("p"); err != nil {
			t.Fatal(err)
		}
		if err := b.keepPool(t.Context(), "p", b.byPool()["p"]); (a.lost != nil) != c.lost || (err == nil) != c.lost {
			t.Errorf("%s with %v: lost: %v, error %v; want lost: %t", c.kind, c.err, a.lost, err, c.lost)
		}
	}
}

// TestDisperseDoesNotReload checks that the client of a Disperse pool, whose locks do not
// migrate, does not reload its graph, that its volumes are lost when it has another graph, and
// that those attached later are not.
func TestDisperseDoesNotReload(t *testing.T) {
	bed := newTestbed(t, schema.Disperse)
	bed.pools.onReload = func() { t.Error("the graph was reloaded") }
	a, busy := bed.addVolume("a"), bed.addVolume("busy")
	bed.keepOnce()
	if a.lost != nil {
		t.Errorf("after a brick has returned: %v", a.lost)
	}
	bed.pools.graph = "another"
	busy.mu.Lock()
	bed.keepOnce()
	busy.mu.Unlock()
	if !errors.Is(a.lost, ErrLost) || busy.lost != nil {
		t.Errorf("with another graph: %v; a busy volume: %v", a.lost, busy.lost)
	}
	bed.keepOnce()
	if !errors.Is(busy.lost, ErrLost) {
		t.Errorf("a volume that was busy: %v", busy.lost)
	}
	bed.pools.graph = "a third"
	b := bed.addVolume("b")
	bed.keepOnce()
	if b.lost != nil {
		t.Errorf("a volume attached with this graph: %v", b.lost)
	}
}

// TestBusyVolumesAreLockedLater checks that a volume that is busy while the others are locked
// again, or attached in between, is locked by the next run, and that no run follows.
func TestBusyVolumesAreLockedLater(t *testing.T) {
	b := newTestbed(t, schema.Replica3)
	idle, busy := b.addVolume("idle"), b.addVolume("busy")
	var late *attachment
	b.pools.onReload = func() { late = b.addVolume("late") }
	checkLocked := func(a *attachment, want bool) {
		t.Helper()
		other, err := os.OpenFile(a.locked.File.Name(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if is, err := ofd.Locked(other); err != nil || is != want {
			t.Errorf("volume %s is locked: %t, %v; want %t", a.name, is, err, want)
		}
	}
	busy.mu.Lock()
	b.keepOnce()
	checkLocked(idle, true)
	checkLocked(busy, false)
	checkLocked(late, false)
	b.pools.onReload = func() { t.Error("the graph was reloaded though all files are open on all bricks") }
	b.keepOnce()
	checkLocked(busy, false)
	checkLocked(late, true)
	busy.mu.Unlock()
	b.keepOnce()
	checkLocked(busy, true)
	if err := ofd.Unlock(idle.locked.File); err != nil {
		t.Fatal(err)
	}
	b.keepOnce()
	checkLocked(idle, false)
}

// TestHolds: a pool's client is needed while a volume is attached, or a call may be attaching one.
func TestHolds(t *testing.T) {
	b := newTestbed(t, schema.Replica3)
	if b.Holds("p") {
		t.Error("held without volumes")
	}
	a := b.addVolume("a")
	if !b.Holds("p") || b.Holds("q") {
		t.Error("an attached volume is not held, or its pool is not told apart")
	}
	a.locked, a.lost = nil, ErrLost
	if !b.Holds("p") {
		t.Error("a lost volume with a device is not held")
	}
	a.device = nil
	if b.Holds("p") {
		t.Error("held after it was detached")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !b.Holds("p") {
		t.Error("a busy volume is not held")
	}
}
