package rebalance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
)

// Bricks record the layout that all files are in. While files are being moved, no brick may
// have a layout recorded: if the document returns to a former layout meanwhile, files and
// directories are in neither.

// moving is what bricks record instead of a layout while files are being moved. Layouts are
// numbers.
const moving = "moving"

// errNoKeys says that the bricks' agents cannot be told anything.
var errNoKeys = errors.New("no keys for the agents; create Secret atoll-agent-keys with 'atoll apply'")

// bricksHaveLayout reports whether bricks have recorded that the layout was reached: at least
// one of the first set has, and none that answers has recorded anything else. Bricks that are
// offline or were replaced do not count. The first set is part of every layout, so its bricks
// recorded every move; those of a set that was removed and added again did not.
func (r *Rebalancer) bricksHaveLayout(ctx context.Context, g gluster.Rebalance) bool {
	var recorded, other atomic.Int32
	forEachBrick(g.Bricks, func(b gluster.HealBrick) error {
		layout, err := r.recordedLayout(ctx, b)
		switch {
		case err != nil || layout == "":
		case layout != g.LayoutID:
			other.Add(1)
		case slices.Contains(g.First, b):
			recorded.Add(1)
		}
		return err
	})
	return recorded.Load() > 0 && other.Load() == 0
}

// recordedLayout returns what a brick has recorded, "" if nothing.
func (r *Rebalancer) recordedLayout(ctx context.Context, b gluster.HealBrick) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	s, err := r.agents.Status(ctx, r.agentAddress(b))
	return s.Layout, err
}

// recordMoving makes all bricks record that files are being moved. Files must not be moved
// before: after an interruption the record of a former layout would be believed. Without
// keys, bricks cannot record anything; then none may have a layout recorded.
func (r *Rebalancer) recordMoving(ctx context.Context, g gluster.Rebalance) error {
	err := r.record(ctx, g, moving)
	if errors.Is(err, errNoKeys) {
		err = errors.Join(forEachBrick(g.Bricks, func(b gluster.HealBrick) error {
			layout, err := r.recordedLayout(ctx, b)
			if err == nil && layout != "" && layout != moving {
				err = fmt.Errorf("it has recorded layout %s: %w", layout, errNoKeys)
			}
			return err
		})...)
	}
	if err != nil {
		return fmt.Errorf("make all bricks record that files are being moved: %w", err)
	}
	return nil
}

// announceMove is recordMoving before files are moved: clients that have the volfile's layout
// place new files by it already. Bricks that are offline are told later.
func (r *Rebalancer) announceMove(ctx context.Context, g gluster.Rebalance) {
	if err := r.recordMoving(ctx, g); err != nil {
		r.Log.Info("not all bricks have recorded yet that files will be moved", "error", err.Error())
	}
}

// recordLayout records the layout on all bricks, so that it is not rebalanced again. Without
// the agents' keys, all files are scanned once more after a restart.
func (r *Rebalancer) recordLayout(ctx context.Context, g gluster.Rebalance) {
	if err := r.record(ctx, g, g.LayoutID); err != nil {
		r.Log.Info("the layout could not be recorded on all bricks; all files are scanned again after a restart",
			"error", err.Error())
	}
}

// record makes all bricks record a layout, or moving.
func (r *Rebalancer) record(ctx context.Context, g gluster.Rebalance, layout string) error {
	keys, err := r.Keys()
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return errNoKeys
	}
	return errors.Join(forEachBrick(g.Bricks, func(b gluster.HealBrick) error {
		ctx, cancel := context.WithTimeout(ctx, peerLimit)
		defer cancel()
		return r.agents.Layout(ctx, r.agentAddress(b), r.audience(b), agent.LayoutRequest{Layout: layout}, keys)
	})...)
}
