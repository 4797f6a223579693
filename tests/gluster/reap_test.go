package gluster

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/bricks"
	"github.com/atoll-storage/atoll/tests/host"
)

// TestReap changes a pool's graph under a mount: the client of the former graph stays
// as long as something is mounted from it, and then goes.
func TestReap(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	dir := t.TempDir()
	pools := catalog.Folder{Dir: filepath.Join(dir, "catalog")}
	clients, err := mounts.New(filepath.Join(dir, "mounts"), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		clients.Close()
		if err := bricks.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
	})
	root := func() string {
		t.Helper()
		p, err := pools.Pool("p")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		at, err := clients.Root(ctx, p, schema.Subdirectory)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	running := func(want int, when string) {
		t.Helper()
		clients.Reap(pools, 0)
		if pids := host.Clients(t, dir); len(pids) != want {
			t.Errorf("%s: %d clients, want %d", when, len(pids), want)
		}
	}
	c.Catalog(pools, schema.Subdirectory)
	first, pod := root(), t.TempDir()
	if err := unix.Mount(first, pod, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(pod, unix.MNT_DETACH) })
	c.Pool.Options = map[string]string{"performance.quick-read": "off"}
	c.Catalog(pools, schema.Subdirectory)
	if root() == first {
		t.Fatal("the other graph has the same mount")
	}
	running(2, "while a pod has the former graph")
	if _, err := pools.Write("p", map[string]string{entry.KeyEntry: "{"}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(pod, 0); err != nil {
		t.Fatal(err)
	}
	running(2, "while the entry is broken")
	c.Catalog(pools, schema.Subdirectory)
	running(1, "when nobody has the former graph")
	root()
	if err := pools.Remove("p"); err != nil {
		t.Fatal(err)
	}
	running(0, "when the pool has gone")
}
