// Package gluster runs what talks to GlusterFS against real glusterfsd bricks, mounts, self-heal
// daemons and glusterd, and takes bricks away.
package gluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/sandbox"
)

// stallLimit is longer than a call takes on a busy machine, and shorter than a call that waits
// for a brick that does not answer: network.ping-timeout is 42 s.
const stallLimit = 30 * time.Second

func TestMain(m *testing.M) {
	sandbox.Parallel(4)
	os.Exit(sandbox.Run(m))
}

// poolClients are the clients of one process, with their catalog, below dir.
type poolClients struct {
	*mounts.Clients
	dir   string
	pools catalog.Folder
}

// newClients returns clients that end with the test.
func newClients(t *testing.T) poolClients {
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
	return poolClients{clients, dir, catalog.Folder{Dir: filepath.Join(dir, "catalog")}}
}

// root mounts the pool p and returns the directory.
func (c poolClients) root(t *testing.T) string {
	t.Helper()
	return c.rootOf(t, schema.Subdirectory)
}

// rootOf is root with the graph of a layout.
func (c poolClients) rootOf(t *testing.T, layout schema.Layout) string {
	t.Helper()
	p, err := c.pools.Pool("p")
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

// sometimes returns a function that calls another one at most every two seconds.
func sometimes(do func()) func() {
	var last time.Time
	return func() {
		if time.Since(last) > 2*time.Second {
			do()
			last = time.Now()
		}
	}
}
