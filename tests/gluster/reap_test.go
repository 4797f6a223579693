package gluster

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestReap removes a mounted pool from the catalog. Its client ends once nothing is mounted from
// it.
func TestReap(t *testing.T) {
	t.Parallel()
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
		ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
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
	if _, err := pools.Write("p", map[string]string{entry.KeyEntry: "{"}); err != nil {
		t.Fatal(err)
	}
	running(1, "while the entry is invalid")
	if err := pools.Remove("p"); err != nil {
		t.Fatal(err)
	}
	running(1, "while a pod mounts the volume")
	if err := unix.Unmount(pod, 0); err != nil {
		t.Fatal(err)
	}
	running(0, "without pool and mounts")
	c.Catalog(pools, schema.Subdirectory)
	root()
	running(1, "with the pool again")
}
