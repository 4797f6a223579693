package mounts

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strings"
	"time"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
)

// followEvery is how often the catalog is looked at for graphs that have changed.
const followEvery = 2 * time.Second

// serveSpecs serves graphs to the clients, on an address of this host only, until
// Close. There are no secrets in them.
func (c *Clients) serveSpecs() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serving graphs to clients: %w", err)
	}
	c.port = l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := c.specs.Serve(ctx, l); err != nil {
			c.log.Error(err, "clients do not hear of changes any more")
		}
	}()
	c.stop = func() {
		cancel()
		<-served
	}
	return nil
}

// publish gives the graph of a native pool to its client, which takes a changed one
// under the files that are open.
func (c *Clients) publish(one *client, key string, p catalog.Pool, layout schema.Layout) {
	text := graph(p, layout)
	if p.Type == schema.External || text == "" {
		return // the cluster that serves it tells its clients itself
	}
	text = gluster.RenameTop(text, int(one.round.Load()))
	if former, known := c.specs.Get(key); known && former != text && !c.ready(key, p.Pool, former, text) {
		return
	}
	if c.specs.Set(key, text) {
		c.log.Info("a pool has a new graph", "pool", p.Pool, "layout", layout)
	}
}

// ready tells whether all bricks that a changed graph adds can be reached. Until then a
// client keeps what it has: on a set that is not there, it could make no files.
func (c *Clients) ready(key, pool, former, text string) bool {
	silent, err := gluster.NewSilentBricks(context.Background(), former, text)
	if err != nil {
		c.log.Error(err, "a pool's new graph cannot be read", "pool", pool)
		return false
	}
	waiting := strings.Join(silent, " ")
	if before, _ := c.waiting.Swap(key, waiting); waiting != "" && before != waiting {
		c.log.Info("a pool's new graph waits until its new bricks answer", "pool", pool, "bricks", silent)
	}
	return waiting == ""
}

// Follow tells the clients that run of graphs that have changed in the catalog. A pool
// that has gone or cannot be read keeps its graph.
func (c *Clients) Follow(pools catalog.Folder) {
	c.mu.Lock()
	all := maps.Clone(c.clients)
	c.mu.Unlock()
	for key, one := range all {
		if !one.runs.Load() {
			continue
		}
		p, err := pools.Pool(one.pool)
		if err != nil {
			continue
		}
		for _, layout := range []schema.Layout{schema.Subdirectory, schema.Block} { // one for each graph
			if keyOf(p, layout) == key {
				c.publish(one, key, p, layout)
			}
		}
	}
}

// Keep follows the catalog, and reaps, until the context ends.
func (c *Clients) Keep(ctx context.Context, pools catalog.Folder) error {
	follow, reap := time.NewTicker(followEvery), time.NewTicker(reapEvery)
	defer follow.Stop()
	defer reap.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-follow.C:
			c.Follow(pools)
		case <-reap.C:
			c.Reap(pools, reapEvery)
		}
	}
}
