package gluster

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestGraphChangesLive changes an option of a pool and adds a replica set while files are
// created, written, synced, read and removed. The client stays the same, and no call fails or
// stalls.
func TestGraphChangesLive(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica3, 3, nil)
	clients := host.NewPoolClients(t)
	dir, pools := clients.Dir, clients.Pools
	c.Catalog(pools, schema.Subdirectory)
	root := clients.Mount(t, schema.Subdirectory)
	before := bricks.Write(t, root, "before", 20)
	work := startWork(root)
	readable := startReadingGraph(root)
	graph := func() string { at, _ := os.Readlink(filepath.Join(root, ".meta/graphs/active")); return at }
	first := graph()
	for _, step := range []struct {
		what   string
		change func()
		bricks int
	}{
		{"an option", func() { c.Pool.Options = map[string]string{"performance.quick-read": "off"} }, 3},
		{"a set", func() {
			c.Extend(3)
			c.Catalog(pools, schema.Subdirectory)
			for range 3 { // nothing changes before the set's bricks run
				clients.UpdateGraphs(pools)
				work.progress(t, 100)
			}
			if graph() != first || bricks.Connected(root) != 3 {
				t.Error("the client switched to a graph with bricks that do not run")
			}
			for i := 3; i < 6; i++ {
				c.StartBrick(i)
			}
		}, 6},
		{"the option is back", func() { c.Pool.Options = nil }, 6},
	} {
		step.change()
		c.Catalog(pools, schema.Subdirectory)
		clients.UpdateGraphs(pools)
		c.Eventually("the mount has the graph after "+step.what,
			func() bool { return graph() != first && bricks.Connected(root) == step.bricks })
		first = graph()
		work.progress(t, 100)
	}
	work.end(t)
	if err := readable(); err != nil {
		t.Error(err) // who reads the graph would take the client for dead
	}
	before.Verify(t, root)
	if pids := host.Clients(t, dir); len(pids) != 1 {
		t.Errorf("%d clients, want 1", len(pids))
	}
}

// startReadingGraph reads the connections of a mount without a pause until the returned function is
// called, which returns the first error.
func startReadingGraph(root string) (end func() error) {
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var first error
		for {
			select {
			case <-stop:
				done <- first
				return
			default:
			}
			if _, _, err := gluster.Connections(root); err != nil && first == nil {
				first = err
			}
		}
	}()
	return func() error { close(stop); return <-done }
}

// work creates, reads and removes files, as a busy tenant does.
type work struct {
	stop chan struct{}
	done chan error

	mu      sync.Mutex
	calls   int
	longest time.Duration
}

func startWork(dir string) *work {
	w := &work{stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { w.done <- w.run(dir) }()
	return w
}

func (w *work) run(dir string) error {
	long, err := os.Create(filepath.Join(dir, "kept open"))
	if err != nil {
		return err
	}
	defer long.Close()
	for {
		select {
		case <-w.stop:
			return nil
		default:
		}
		n, _ := w.counts()
		name := filepath.Join(dir, fmt.Sprint("file ", n))
		for _, call := range []func() error{
			func() error { return os.WriteFile(name, []byte(name), 0o600) },
			func() error {
				text, err := os.ReadFile(name)
				if err == nil && string(text) != name {
					err = fmt.Errorf("%s has %q", name, text)
				}
				return err
			},
			func() error { _, err := long.WriteString(name); return err },
			long.Sync,
			func() error { return os.Remove(name) },
		} {
			begin := time.Now()
			if err := call(); err != nil {
				return fmt.Errorf("call %d: %w", n, err)
			}
			w.mu.Lock()
			w.calls, w.longest = w.calls+1, max(w.longest, time.Since(begin))
			w.mu.Unlock()
		}
	}
}

func (w *work) counts() (calls int, longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls, w.longest
}

// progress waits until some more calls have succeeded.
func (w *work) progress(t *testing.T, more int) {
	t.Helper()
	from, _ := w.counts()
	await.True(t, fmt.Sprintf("%d calls more have succeeded", more), func() bool {
		now, _ := w.counts()
		return now >= from+more || len(w.done) > 0 // end reports the error
	})
}

func (w *work) end(t *testing.T) {
	t.Helper()
	close(w.stop)
	if err := <-w.done; err != nil {
		t.Errorf("the tenant's work: %v", err)
	}
	calls, longest := w.counts()
	t.Logf("%d calls, the longest took %s", calls, longest.Round(time.Millisecond))
	if longest > stallLimit {
		t.Errorf("a call took %s", longest)
	}
}
