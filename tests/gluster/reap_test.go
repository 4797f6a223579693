package gluster

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestReap removes a mounted pool from the catalog. Its client ends once nothing is mounted from
// it.
func TestReap(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	clients := host.NewPoolClients(t)
	dir, pools := clients.Dir, clients.Pools
	root := func() string {
		t.Helper()
		return clients.Mount(t, schema.Subdirectory)
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

	// Devices of block volumes are not mounts of their client.
	held := true
	clients.HoldsVolumes = func(pool string) bool { return held && pool == "p" }
	c.Catalog(pools, schema.Block)
	clients.Mount(t, schema.Block)
	running(1, "while the pool serves block volumes alone")
	if err := pools.Remove("p"); err != nil {
		t.Fatal(err)
	}
	running(1, "while a block volume is attached")
	held = false
	running(0, "without block volumes")
}
