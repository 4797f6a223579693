package gluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestClientOutlivesCallers: callers that give up, or whose call was cancelled, end no client.
func TestClientOutlivesCallers(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica3, 3, nil)
	clients := host.NewPoolClients(t)
	c.Catalog(clients.Pools, schema.Subdirectory)
	p, err := clients.Pools.Pool("p")
	if err != nil {
		t.Fatal(err)
	}
	// The first one gives up while the client starts, which goes on.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := clients.Root(ctx, p, schema.Subdirectory); !errors.Is(err, mounts.ErrUnreachable) {
		t.Errorf("a caller without time: %v", err)
	}
	root := clients.Mount(t, schema.Subdirectory)
	pids := host.Clients(t, clients.Dir)
	file := keepOpen(t, root)
	if err := c.Bricks[0].Process.Signal(unix.SIGSTOP); err != nil { // calls wait for it
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		_, _ = clients.Root(cancelled, p, schema.Subdirectory) // may succeed: both are ready
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, _ = clients.Root(ctx, p, schema.Subdirectory)
		cancel()
	}
	if err := c.Bricks[0].Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	clients.Mount(t, schema.Subdirectory)
	file.write(t)
	if now := host.Clients(t, clients.Dir); !slices.Equal(now, pids) {
		t.Errorf("clients %v, before %v", now, pids)
	}
}

// TestClientOutlivesOutage: a client whose bricks are all away is kept, says so, and goes on with its
// open files when they are back.
func TestClientOutlivesOutage(t *testing.T) {
	t.Parallel()
	for _, kind := range []schema.Type{schema.Replica1, schema.Replica3} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			testClientOutlivesOutage(t, kind)
		})
	}
}

func testClientOutlivesOutage(t *testing.T, kind schema.Type) {
	n := map[schema.Type]int{schema.Replica1: 1, schema.Replica3: 3}[kind]
	c := bricks.Start(t, kind, n, nil)
	clients := host.NewPoolClients(t)
	c.Catalog(clients.Pools, schema.Subdirectory)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- clients.Run(ctx, clients.Pools) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	root := clients.Mount(t, schema.Subdirectory)
	p, err := clients.Pools.Pool("p")
	if err != nil {
		t.Fatal(err)
	}
	pids, file := host.Clients(t, clients.Dir), keepOpen(t, root)
	devices, err := clients.Devices(t.Context())
	if err != nil || len(devices) != 1 {
		t.Fatalf("devices %v, %v", devices, err)
	}
	for i := range n {
		bricks.Stop(c.Bricks[i])
	}
	c.Eventually("the error says which brick is away", func() bool {
		_, err := clients.Root(t.Context(), p, schema.Subdirectory)
		if err == nil {
			return false // it has not noticed yet
		}
		if !errors.Is(err, mounts.ErrUnreachable) {
			t.Fatal(err)
		}
		return strings.Contains(err.Error(), "it is not connected to brick 0 for ")
	})
	if during, err := clients.Devices(t.Context()); err != nil || len(during) != 1 {
		t.Errorf("devices during the outage: %v, %v", during, err)
	}
	for i := range n {
		c.StartBrick(i)
	}
	c.Eventually("the pool is back", func() bool {
		_, err := clients.Root(t.Context(), p, schema.Subdirectory)
		return err == nil && bricks.Connected(root) == n
	})
	file.write(t)
	if now := host.Clients(t, clients.Dir); !slices.Equal(now, pids) {
		t.Errorf("clients %v, before %v", now, pids)
	}
}

// TestReloadWhileSetIsAdded: a client loads its graph again, as attached block volumes need after a
// brick has restarted, while a set that is being added does not run yet.
func TestReloadWhileSetIsAdded(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica3, 3, nil)
	clients := host.NewPoolClients(t)
	c.Catalog(clients.Pools, schema.Block)
	root := clients.Mount(t, schema.Block)
	file := keepOpen(t, root)
	c.Extend(3)
	c.Catalog(clients.Pools, schema.Block)
	clients.UpdateGraphs(clients.Pools)
	p, err := clients.Pools.Pool("p")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
	defer cancel()
	for range 2 {
		if err := clients.ReloadGraph(ctx, p, schema.Block); err != nil {
			t.Fatal(err)
		}
		file.write(t)
	}
	if n := bricks.Connected(root); n != 3 {
		t.Errorf("connected to %d bricks", n)
	}
	for i := 3; i < 6; i++ {
		c.StartBrick(i)
	}
	c.Eventually("the client has the set", func() bool {
		clients.UpdateGraphs(clients.Pools)
		return bricks.Connected(root) == 6
	})
	file.write(t)
}

// openFile is a file that an application keeps open.
type openFile struct{ *os.File }

func keepOpen(t *testing.T, root string) openFile {
	t.Helper()
	f, err := os.Create(filepath.Join(root, "kept open"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return openFile{f}
}

// write writes and syncs, through the descriptor that was opened first.
func (f openFile) write(t *testing.T) {
	t.Helper()
	_, err := f.WriteString("line\n")
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		t.Errorf("an open file: %v", err)
	}
}
