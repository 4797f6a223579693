// Package background is the work of the controller between calls: emptying the trash of pools,
// writing records to replica sets that were added, and measuring what pools use.
package background

import (
	"context"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/schema"
)

// Sweeper empties the trash of pools, one pool at a time.
type Sweeper struct {
	pools pool.Opener
	log   logr.Logger
	queue chan target
}

// target is a trash directory: each layout of a pool has one.
type target struct {
	pool   string
	layout schema.Layout
}

// sweepLimit is how long one pool may take before the others have their turn. What remains is
// removed in the pool's next turn.
const sweepLimit = 10 * time.Minute

// sweepEvery is how often all pools have a turn, for what remained.
const sweepEvery = 10 * time.Minute

// queueLimit is how many turns can wait.
const queueLimit = 100

// NewSweeper returns a Sweeper of these pools.
func NewSweeper(pools pool.Opener, log logr.Logger) *Sweeper {
	return &Sweeper{pools: pools, log: log, queue: make(chan target, queueLimit)}
}

// Run sweeps until the context ends.
func (s *Sweeper) Run(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	s.wakeAll()
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-s.queue:
			s.Sweep(ctx, t.pool, t.layout)
		case <-tick.C:
			s.wakeAll()
		}
	}
}

// Wake queues a turn of a pool. When the queue is full, it does nothing: the next tick queues
// all pools.
func (s *Sweeper) Wake(pool string, layout schema.Layout) {
	select {
	case s.queue <- target{pool, layout}:
	default:
	}
}

// Sweep empties the trash of one layout of a pool.
func (s *Sweeper) Sweep(ctx context.Context, pool string, layout schema.Layout) {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	log := s.log.WithValues("pool", pool)
	h, err := s.pools.Open(ctx, pool, layout)
	if err != nil {
		log.Info("emptying the trash later", "error", err.Error())
		return
	}
	defer h.Close()
	if err := backend.Sweep(ctx, h.Root, layout, log); err != nil {
		log.Info("trash not empty yet", "error", err.Error())
	}
	if layout == schema.Block {
		if err := h.Blocks().SweepLeftovers(log); err != nil {
			log.Info("remains of interrupted copies not removed yet", "error", err.Error())
		}
	}
}

// wakeAll queues a turn of every pool.
func (s *Sweeper) wakeAll() {
	names, err := s.pools.Catalog.Names()
	if err != nil {
		return
	}
	for _, name := range names {
		p, err := s.pools.Catalog.Pool(name)
		if err != nil {
			continue
		}
		for _, layout := range p.Layouts {
			s.Wake(name, layout)
		}
	}
}
