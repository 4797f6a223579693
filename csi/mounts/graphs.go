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

// updateEvery is how often the catalog is read for changed graphs.
const updateEvery = 2 * time.Second

// serveVolfiles serves graphs to the clients on the loopback address until Close. They
// contain no secrets.
func (c *Clients) serveVolfiles() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("serve volfiles to clients: %w", err)
	}
	c.port = l.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := c.volfiles.Serve(ctx, l); err != nil {
			c.log.Error(err, "clients no longer receive changed graphs")
		}
	}()
	c.stop = func() {
		cancel()
		<-served
	}
	return nil
}

// serveGraph offers the graph of a native pool to its client, which switches to a changed
// graph under open files.
func (c *Clients) serveGraph(cl *client, key string, p catalog.Pool, layout schema.Layout) {
	text := graph(p, layout)
	if p.Type == schema.External || text == "" {
		return // the cluster that serves an External volume notifies its clients itself
	}
	if former := cl.graph.Load(); former != nil && *former != text && !c.bricksReachable(key, p.Pool, *former, text) {
		return
	}
	cl.graph.Store(&text)
	if c.serve(cl, key) {
		c.log.Info("graph of a pool changed", "pool", p.Pool, "layout", layout)
	}
}

// serve serves the client's graph to it, under another name after each reload. It reports whether
// that is a change.
func (c *Clients) serve(cl *client, key string) bool {
	return c.volfiles.Set(key, gluster.RenameTop(*cl.graph.Load(), int(cl.reloads.Load())))
}

// bricksReachable reports whether all bricks that a changed graph adds respond. Until then
// a client keeps its graph: it could not create files on a set that does not respond.
func (c *Clients) bricksReachable(key, pool, former, text string) bool {
	silent, err := gluster.NewSilentBricks(context.Background(), former, text)
	if err != nil {
		c.log.Error(err, "changed graph of a pool cannot be parsed", "pool", pool)
		return false
	}
	pending := strings.Join(silent, " ")
	if before, _ := c.pendingBricks.Swap(key, pending); pending != "" && before != pending {
		c.log.Info("changed graph of a pool waits for its added bricks", "pool", pool, "bricks", silent)
	}
	return pending == ""
}

// UpdateGraphs sends running clients the graphs that have changed in the catalog. A pool
// that was removed or cannot be read keeps its graph.
func (c *Clients) UpdateGraphs(pools catalog.Folder) {
	c.mu.Lock()
	all := maps.Clone(c.clients)
	c.mu.Unlock()
	for key, cl := range all {
		if !cl.running.Load() {
			continue
		}
		p, err := pools.Pool(cl.pool)
		if err != nil {
			continue
		}
		for _, layout := range []schema.Layout{schema.Subdirectory, schema.Block} { // one for each graph
			if keyOf(p, layout) == key {
				c.serveGraph(cl, key, p, layout)
			}
		}
	}
}

// Run updates graphs from the catalog and reaps unused clients until the context ends.
func (c *Clients) Run(ctx context.Context, pools catalog.Folder) error {
	update, reap := time.NewTicker(updateEvery), time.NewTicker(reapEvery)
	defer update.Stop()
	defer reap.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-update.C:
			c.UpdateGraphs(pools)
			c.look()
			c.rotateLogs()
		case <-reap.C:
			c.Reap(pools, reapEvery)
		}
	}
}
