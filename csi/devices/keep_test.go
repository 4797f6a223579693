package devices

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
	lost int
	anew func()
}

func (b *back) Root(context.Context, catalog.Pool, schema.Layout) (string, error) {
	return "", errors.New("no volume is taken here")
}

func (b *back) Connections(catalog.Pool, schema.Layout) (string, []gluster.Connection, error) {
	return "graph", []gluster.Connection{{Brick: 0, Connected: true}, {Brick: 1, Connected: true, Lost: b.lost}}, nil
}

func (b *back) Renew(context.Context, catalog.Pool, schema.Layout) error {
	b.lost = 0
	b.anew()
	return nil
}

// TestKeepBusy holds that a volume which somebody works on while the others are locked again
// is locked at the next look, and so is one that is taken meanwhile; and that there is no
// other look after that.
func TestKeepBusy(t *testing.T) {
	dir := t.TempDir()
	pools := &back{lost: 1, anew: func() {}}
	h := &Holder{Pools: pools, Catalog: catalog.Folder{Dir: filepath.Join(dir, "catalog")}, Log: logr.Discard(), held: map[string]*held{}}
	text, err := entry.Encode(entry.Entry{
		Pool: "p", Namespace: "n", Type: schema.Replica1, Layouts: []schema.Layout{schema.Block}, SetSize: 1, Bricks: []entry.Brick{{Host: "h"}},
	})
	if err == nil {
		_, err = h.Catalog.Write("p", map[string]string{entry.KeyEntry: string(text), entry.KeyBlocks: "volume x"})
	}
	if err != nil {
		t.Fatal(err)
	}
	take := func(name string) *held {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		one := &held{pool: "p", name: name, taken: &backend.Taken{File: f}}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.held["p/"+name] = one
		return one
	}
	idle, busy := take("idle"), take("busy")
	var late *held
	pools.anew = func() { late = take("late") }
	look := func() {
		t.Helper()
		if err := h.keep(t.Context(), "p", h.byPool()["p"]); err != nil {
			t.Fatal(err)
		}
	}
	locked := func(one *held, want bool) {
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
	h.note("p", "graph", []gluster.Connection{{Brick: 0, Connected: true}, {Brick: 1, Connected: true}})
	busy.mu.Lock()
	look()
	locked(idle, true)
	locked(busy, false)
	locked(late, false)
	pools.anew = func() { t.Error("the client begins anew though all files are open on all bricks") }
	look()
	locked(busy, false)
	locked(late, true)
	busy.mu.Unlock()
	look()
	locked(busy, true)
	if err := ofd.Unlock(idle.taken.File); err != nil {
		t.Fatal(err)
	}
	look()
	locked(idle, false)
}
