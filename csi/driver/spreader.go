package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/schema"
)

// spreadEvery is how often pools are looked at for sets that were added.
const spreadEvery = 20 * time.Second

// agentLimit is how long the agents of a pool may take to say what their bricks have.
const agentLimit = 5 * time.Second

// spreadLimit is how long one pool may take; what is left has its turn later.
const spreadLimit = 10 * time.Minute

// spread brings the records of volumes onto sets that were added to their pool, until
// the context ends.
func (c *controller) spread(ctx context.Context) {
	for {
		names, err := c.d.Catalog.Names()
		if err != nil {
			names = nil // every call says so
		}
		for _, name := range names {
			if err := c.spreadPool(ctx, name); err != nil && ctx.Err() == nil {
				c.d.Log.Info("the records of volumes are not on all sets yet", "pool", name, "error", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(spreadEvery):
		}
	}
}

func (c *controller) spreadPool(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, spreadLimit)
	defer cancel()
	p, err := c.d.Catalog.Pool(name)
	if err != nil || p.Type == schema.External || len(p.Bricks) <= p.SetSize || len(folderLayouts(p)) == 0 {
		return nil // calls say what is wrong with it
	}
	o, err := c.d.openPool(ctx, p, folderLayouts(p)[0])
	if err != nil {
		return err
	}
	defer o.Close()
	sets := len(p.Bricks) / p.SetSize
	if have, err := backend.SpreadOver(o.root); err != nil || have == sets && !lacksRecords(ctx, p, sets) {
		return err
	}
	if clients, err := filepath.Glob(o.root.Path() + "/.meta/graphs/active/*-client-*"); err != nil || len(clients) != len(p.Bricks) {
		return fmt.Errorf("the client of this process has %d of %d bricks in its graph", len(clients), len(p.Bricks))
	}
	all, err := o.backend.List(ctx)
	if err != nil {
		return err
	}
	for _, v := range all {
		if err := errors.Join(c.rewrite(o, v.Name), ctx.Err()); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	if err := backend.SetSpread(o.root, sets); err != nil {
		return err
	}
	c.d.Log.Info("the records of volumes are on all sets", "pool", name, "sets", sets, "volumes", len(all))
	return nil
}

// folderLayouts are those of a pool whose volumes are folders, which every set has. A file
// is on one.
func folderLayouts(p catalog.Pool) []schema.Layout {
	return slices.DeleteFunc(slices.Clone(p.Layouts), func(l schema.Layout) bool { return l == schema.Block })
}

// lacksRecords tells whether a set of the pool is another one than when records were last
// brought to so many sets: one went, and another came. The agents of all its bricks that
// answer say so.
func lacksRecords(ctx context.Context, p catalog.Pool, sets int) bool {
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	addresses := make([]string, len(p.Bricks))
	for i, b := range p.Bricks {
		if b.Agent == 0 {
			return false
		}
		addresses[i] = net.JoinHostPort(b.Host, strconv.Itoa(b.Agent))
	}
	var client agent.Client
	all := client.Statuses(ctx, addresses...)
	for set := range slices.Chunk(all, p.SetSize) {
		answer := slices.DeleteFunc(slices.Clone(set), func(a agent.StatusResult) bool { return a.Err != nil || !a.Online })
		has := slices.ContainsFunc(answer, func(a agent.StatusResult) bool { return a.Spread == strconv.Itoa(sets) })
		if len(answer) > 0 && !has {
			return true
		}
	}
	return false
}

// rewrite writes one record again; a volume that has gone has none.
func (c *controller) rewrite(o *opened, name string) error {
	release, err := c.locks.take(name)
	if err != nil {
		return err
	}
	defer release()
	if err := o.backend.Rewrite(name); !errors.Is(err, backend.ErrNotFound) {
		return err
	}
	return nil
}
