package blockdev

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// back is a pool one of whose bricks has restarted and does not have the locks of files that
// are open. The client opens them there when it begins anew.
type back struct {
	graph string
	lost  int
	open  int // beside those of the other brick
	anew  func()
}

func (b *back) Root(context.Context, catalog.Pool, schema.Layout) (string, error) {
	return "", errors.New("no volume is taken here")
}

func (b *back) Running(catalog.Pool, schema.Layout) (string, error) {
	return "", errors.New("it is not to be asked for")
}

func (b *back) Connections(catalog.Pool, schema.Layout) (string, []gluster.Connection, error) {
	return b.graph, []gluster.Connection{{Brick: 0, Connected: true, Open: 2}, {Brick: 1, Connected: true, Lost: b.lost, Open: 2 + b.open}}, nil
}

func (b *back) Renew(context.Context, catalog.Pool, schema.Layout) error {
	b.lost = 0
	b.anew()
	return nil
}

// testbed is a holder of volumes that are files of this machine.
type testbed struct {
	*Manager
	t     *testing.T
	dir   string
	pools *back
}

func holder(t *testing.T, kind schema.Type) *testbed {
	dir := t.TempDir()
	pools := &back{graph: "graph", lost: 1}
	h := &Manager{Pools: pools, Catalog: catalog.Folder{Dir: filepath.Join(dir, "catalog")}, Log: logr.Discard(), held: map[string]*attachment{}}
	text, err := entry.Encode(entry.Entry{
		Pool: "p", Namespace: "n", Type: kind, Layouts: []schema.Layout{schema.Block}, SetSize: 2, Bricks: []entry.Brick{{Host: "h"}, {Host: "i"}},
	})
	if err == nil {
		_, err = h.Catalog.Write("p", map[string]string{entry.KeyEntry: string(text), entry.KeyBlocks: "volume x"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return &testbed{h, t, dir, pools}
}

// take is Attach, but for the lock and the device.
func (b *testbed) take(name string) *attachment {
	b.t.Helper()
	one := &attachment{pool: "p", name: name}
	p, err := b.Catalog.Pool("p")
	if err == nil {
		err = b.begin(p, one)
	}
	if err == nil {
		one.device, err = os.Create(filepath.Join(b.dir, name)) // any file
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { one.device.Close() })
	one.taken = &backend.LockedVolume{File: one.device}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held["p/"+name] = one
	return one
}

func (b *testbed) look() {
	b.t.Helper()
	if err := b.keep(b.t.Context(), "p", b.byPool()["p"]); err != nil {
		b.t.Fatal(err)
	}
}

// TestKeepUnopened holds that a client begins anew again when it has not opened all files on
// the brick that is back.
func TestKeepUnopened(t *testing.T) {
	h := holder(t, schema.Replica3)
	times := 0
	h.pools.anew = func() {
		times++
		h.pools.open = min(0, times-2)
	}
	h.take("a")
	for range 4 {
		h.look()
	}
	if times != 2 {
		t.Errorf("the client has begun anew %d times, want 2", times)
	}
}

// TestKeepDispersed holds that the client of a Disperse pool, whose locks do not move, does
// not begin anew, that volumes are given up when it has, and that those that are taken after
// that are not.
func TestKeepDispersed(t *testing.T) {
	h := holder(t, schema.Disperse)
	h.pools.anew = func() { t.Error("the client begins anew") }
	a, busy := h.take("a"), h.take("busy")
	h.look()
	if a.lost != nil {
		t.Errorf("with a brick that is back: %v", a.lost)
	}
	h.pools.graph = "another"
	busy.mu.Lock()
	h.look()
	busy.mu.Unlock()
	if !errors.Is(a.lost, ErrLost) || busy.lost != nil {
		t.Errorf("with another graph: %v, and one that is worked on: %v", a.lost, busy.lost)
	}
	h.look()
	if !errors.Is(busy.lost, ErrLost) {
		t.Error("one that was worked on is kept")
	}
	h.pools.graph = "a third"
	b := h.take("b")
	h.look()
	if b.lost != nil {
		t.Errorf("one that was taken by this graph: %v", b.lost)
	}
}

// TestKeepBusy holds that a volume which somebody works on while the others are locked again
// is locked at the next look, and so is one that is taken meanwhile; and that there is no
// other look after that.
func TestKeepBusy(t *testing.T) {
	h := holder(t, schema.Replica3)
	idle, busy := h.take("idle"), h.take("busy")
	var late *attachment
	h.pools.anew = func() { late = h.take("late") }
	locked := func(one *attachment, want bool) {
		t.Helper()
		other, err := os.OpenFile(one.taken.File.Name(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		if is, err := ofd.Held(other); err != nil || is != want {
			t.Errorf("volume %s is locked: %t, %v; want %t", one.name, is, err, want)
		}
	}
	busy.mu.Lock()
	h.look()
	locked(idle, true)
	locked(busy, false)
	locked(late, false)
	h.pools.anew = func() { t.Error("the client begins anew though all files are open on all bricks") }
	h.look()
	locked(busy, false)
	locked(late, true)
	busy.mu.Unlock()
	h.look()
	locked(busy, true)
	if err := ofd.Unlock(idle.taken.File); err != nil {
		t.Fatal(err)
	}
	h.look()
	locked(idle, false)
}
