package background

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/schema"
)

// spreadEvery is how often pools are checked for replica sets that were added.
const spreadEvery = 20 * time.Second

// agentLimit is how long the agents of a pool may take to report their bricks.
const agentLimit = 5 * time.Second

// spreadLimit is how long one pool may take. What remains is written in its next turn.
const spreadLimit = 10 * time.Minute

// Spreader writes the records of volumes to replica sets that were added to their pool: a
// directory that GlusterFS creates there has no trusted attributes.
type Spreader struct {
	Pools pool.Opener
	Locks *rpc.Locks
	Log   logr.Logger
}

// Run checks all pools until the context ends.
func (s *Spreader) Run(ctx context.Context) {
	for {
		names, err := s.Pools.Catalog.Names()
		if err != nil {
			names = nil // every call reports it
		}
		for _, name := range names {
			if err := s.spread(ctx, name); err != nil && ctx.Err() == nil {
				s.Log.Info("records of volumes not on all sets yet", "pool", name, "error", err.Error())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(spreadEvery):
		}
	}
}

func (s *Spreader) spread(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, spreadLimit)
	defer cancel()
	p, err := s.Pools.Catalog.Pool(name)
	if err != nil || p.Type == schema.External || len(p.Bricks) <= p.SetSize || len(directoryLayouts(p)) == 0 {
		return nil // calls report what is wrong with it
	}
	h, err := s.Pools.OpenPool(ctx, p, directoryLayouts(p)[0])
	if err != nil {
		return err
	}
	defer h.Close()
	sets := len(p.Bricks) / p.SetSize
	if have, err := backend.RecordedSets(h.Root); err != nil || have == sets && !lacksRecords(ctx, p, sets) {
		return err
	}
	if clients, err := filepath.Glob(h.Root.Path() + "/.meta/graphs/active/*-client-*"); err != nil ||
		len(clients) != len(p.Bricks) {
		return fmt.Errorf("the client of this process has %d of %d bricks in its graph", len(clients), len(p.Bricks))
	}
	all, err := h.Backend.List(ctx)
	if err != nil {
		return err
	}
	for _, v := range all {
		if err := errors.Join(s.rewrite(h, v.Name), ctx.Err()); err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	if err := backend.SetRecordedSets(h.Root, sets); err != nil {
		return err
	}
	s.Log.Info("records of volumes are on all sets", "pool", name, "sets", sets, "volumes", len(all))
	return nil
}

// directoryLayouts returns the layouts of a pool whose volumes are directories, which every set
// has. A file is on one set.
func directoryLayouts(p catalog.Pool) []schema.Layout {
	return slices.DeleteFunc(slices.Clone(p.Layouts), func(l schema.Layout) bool { return l == schema.Block })
}

// lacksRecords reports whether a set was replaced since records were last written to so many
// sets. It is true for a set when no agent of it that answers knows this number of sets.
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
		answers := slices.DeleteFunc(slices.Clone(set),
			func(a agent.StatusResult) bool { return a.Err != nil || !a.Online })
		has := slices.ContainsFunc(answers, func(a agent.StatusResult) bool { return a.Spread == strconv.Itoa(sets) })
		if len(answers) > 0 && !has {
			return true
		}
	}
	return false
}

// rewrite writes one record again. A volume that was deleted has none.
func (s *Spreader) rewrite(h *pool.Handle, name string) error {
	unlock, err := s.Locks.LockVolume(name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.Backend.Rewrite(name); !errors.Is(err, backend.ErrNotFound) {
		return err
	}
	return nil
}
