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

// renewLimit is how long a client may take to begin with its graph anew.
const renewLimit = 10 * time.Second

// Renew makes the client of a pool begin anew with the graph that it has, under the files
// that are open: they are opened on all bricks, also on those that have been away since,
// and take the locks along that they still have.
func (c *Clients) Renew(ctx context.Context, p catalog.Pool, layout schema.Layout) error {
	key := keyOf(p, layout)
	one := c.locked(key, p.Pool)
	defer one.mu.Unlock()
	if one.cmd == nil || !one.runs.Load() {
		return fmt.Errorf("%w: pool %s has no client", ErrUnreachable, p.Pool)
	}
	link := filepath.Join(one.target, ".meta/graphs/active")
	before, err := os.Readlink(link)
	if err != nil {
		return fmt.Errorf("reading which graph pool %s has: %w", p.Pool, err)
	}
	one.round.Add(1)
	c.publish(one, key, p, layout)
	ctx, cancel := context.WithTimeout(ctx, renewLimit)
	defer cancel()
	for {
		if now, err := os.Readlink(link); err == nil && now != before {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until the client of pool %s has begun anew: %w", p.Pool, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return gluster.WaitMounted(ctx, one.target) // the first call finds the files moved
}

// Connections tells which graph the client of a pool has, and how it is connected to bricks.
func (c *Clients) Connections(p catalog.Pool, layout schema.Layout) (graph string, all []gluster.Connection, err error) {
	root, err := c.Running(p, layout)
	if err != nil {
		return "", nil, err
	}
	return gluster.Connections(root)
}

// Running gives the folder of a pool whose client runs. Other than Root, it neither asks whether
// that answers nor starts another one: a client that is held up must not be ended under what
// is locked by it.
func (c *Clients) Running(p catalog.Pool, layout schema.Layout) (string, error) {
	c.mu.Lock()
	one := c.clients[keyOf(p, layout)]
	c.mu.Unlock()
	if one == nil || !one.runs.Load() {
		return "", fmt.Errorf("%w: pool %s has no client", ErrUnreachable, p.Pool)
	}
	return one.target, nil
}
