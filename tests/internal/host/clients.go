package host

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// PoolClients are the GlusterFS clients of one process, with their catalog, below Dir.
type PoolClients struct {
	*mounts.Clients
	Dir   string
	Pools catalog.Folder
}

// NewPoolClients returns clients in this process that end with the test.
func NewPoolClients(t *testing.T) PoolClients {
	t.Helper()
	dir := t.TempDir()
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
	return PoolClients{clients, dir, catalog.Folder{Dir: filepath.Join(dir, "catalog")}}
}

// Mount mounts the pool p with the graph of a layout and returns the directory.
func (c PoolClients) Mount(t *testing.T, layout schema.Layout) string {
	t.Helper()
	p, err := c.Pools.Pool("p")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	root, err := c.Root(ctx, p, layout)
	if err != nil {
		t.Fatal(err)
	}
	return root
}
