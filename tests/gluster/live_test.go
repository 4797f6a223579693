package gluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// TestGraphChangesLive changes an option of a pool and adds a set of replicas, under
// files that are made, written, synced, read and removed: one client, no error, and no
// call that takes long.
func TestGraphChangesLive(t *testing.T) {
	c := bricks.Start(t, schema.Replica3, 3, nil)
	dir := t.TempDir()
	pools := catalog.Folder{Dir: filepath.Join(dir, "catalog")}
	c.Catalog(pools, schema.Subdirectory)
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
	p, err := pools.Pool("p")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	root, err := clients.Root(ctx, p, schema.Subdirectory)
	if err != nil {
		t.Fatal(err)
	}
	before := bricks.Write(t, root, "before", 20)
	work := startWork(root)
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
			for range 3 { // its bricks are not there yet: nothing changes
				clients.Follow(pools)
				time.Sleep(time.Second)
			}
			if graph() != first || podrun.Connected(root) != 3 {
				t.Error("the client has taken a set that is not there")
			}
			for i := 3; i < 6; i++ {
				c.StartBrick(i)
			}
		}, 6},
		{"both back, but for the set", func() { c.Pool.Options = nil }, 6},
	} {
		step.change()
		c.Catalog(pools, schema.Subdirectory)
		clients.Follow(pools)
		c.Eventually(20*time.Second, "the mount has the graph after "+step.what, func() bool { return graph() != first && podrun.Connected(root) == step.bricks })
		first = graph()
		time.Sleep(time.Second)
	}
	work.end(t)
	before.Verify(t, root)
	if pids := host.Clients(t, dir); len(pids) != 1 {
		t.Errorf("%d clients", len(pids))
	}
}

// work is what a busy tenant does.
type work struct {
	stop    chan struct{}
	done    chan error
	calls   int
	longest time.Duration
}

func startWork(dir string) *work {
	w := &work{stop: make(chan struct{}), done: make(chan error, 1)}
	go func() { w.done <- w.run(dir) }()
	return w
}

func (w *work) run(dir string) error {
	long, err := os.Create(filepath.Join(dir, "open all the time"))
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
		name := filepath.Join(dir, fmt.Sprint("file ", w.calls))
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
				return fmt.Errorf("call %d: %w", w.calls, err)
			}
			w.calls++
			w.longest = max(w.longest, time.Since(begin))
		}
	}
}

func (w *work) end(t *testing.T) {
	t.Helper()
	close(w.stop)
	if err := <-w.done; err != nil {
		t.Errorf("the tenant: %v", err)
	}
	t.Logf("%d calls, the longest took %s", w.calls, w.longest.Round(time.Millisecond))
	if w.calls < 100 || w.longest > 5*time.Second {
		t.Errorf("%d calls, the longest took %s", w.calls, w.longest)
	}
}
