package mounts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
)

// reloadLimit is how long a client may take to load its graph again.
const reloadLimit = 10 * time.Second

// ReloadGraph makes the client of a pool load the graph that it has again, under open files. The
// client reopens them on all bricks, also on those that were down since, and migrates the locks
// that it still has. A graph that has changed in the catalog is not used: it may wait for its
// bricks.
func (c *Clients) ReloadGraph(ctx context.Context, p catalog.Pool, layout schema.Layout) error {
	key := keyOf(p, layout)
	cl := c.locked(key, p.Pool, layout)
	defer cl.mu.Unlock()
	if cl.cmd == nil || !cl.running.Load() {
		return fmt.Errorf("%w: pool %s has no client", ErrUnreachable, p.Pool)
	}
	if cl.graph.Load() == nil {
		return fmt.Errorf("reload the graph of pool %s: an External volume has its own", p.Pool)
	}
	before, _, err := gluster.Connections(cl.target)
	if err != nil {
		return fmt.Errorf("pool %s: %w", p.Pool, err)
	}
	cl.reloads.Add(1)
	c.serve(cl, key)
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	link := filepath.Join(cl.target, ".meta/graphs/active")
	for {
		if now, err := os.Readlink(link); err == nil && now != before {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("reload the graph of pool %s: %w", p.Pool, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return gluster.WaitMounted(ctx, cl.target) // the first call waits until files are migrated
}

// Connections returns the active graph of a pool's client and its connections to bricks.
func (c *Clients) Connections(
	p catalog.Pool, layout schema.Layout,
) (graph string, all []gluster.Connection, err error) {
	root, err := c.Running(p, layout)
	if err != nil {
		return "", nil, err
	}
	return gluster.Connections(root)
}

// Running returns the mount point of a pool whose client is running. Unlike Root, it neither
// checks that the client responds nor starts another one: a client that is stuck must not be
// ended while files are locked through it.
func (c *Clients) Running(p catalog.Pool, layout schema.Layout) (string, error) {
	c.mu.Lock()
	cl := c.clients[keyOf(p, layout)]
	c.mu.Unlock()
	if cl == nil || !cl.running.Load() {
		return "", fmt.Errorf("%w: pool %s has no client", ErrUnreachable, p.Pool)
	}
	return cl.target, nil
}
