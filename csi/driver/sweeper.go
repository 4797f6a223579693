package driver

import (
	"context"
	"time"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/schema"
)

// sweeper empties the trash of pools in the background, one pool at a time.
type sweeper struct {
	d    *Driver
	work chan target
}

type target struct {
	pool   string
	layout schema.Layout
}

// sweepLimit is how long one pool may take before others have their turn; what is
// left is done in the next.
const sweepLimit = 10 * time.Minute

// sweepEvery is how often all pools have a turn, for what was left.
const sweepEvery = 10 * time.Minute

func newSweeper(d *Driver) *sweeper { return &sweeper{d: d, work: make(chan target, 100)} }

// run works until the context ends.
func (s *sweeper) run(ctx context.Context) {
	again := time.NewTicker(sweepEvery)
	defer again.Stop()
	s.all()
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-s.work:
			s.sweep(ctx, t)
		case <-again.C:
			s.all()
		}
	}
}

// wake asks for a pool's turn; when many wait already, a later call will ask again.
func (s *sweeper) wake(pool string, layout schema.Layout) {
	select {
	case s.work <- target{pool, layout}:
	default:
	}
}

func (s *sweeper) sweep(ctx context.Context, t target) {
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	log := s.d.Log.WithValues("pool", t.pool)
	o, err := s.d.open(ctx, t.pool, t.layout)
	if err != nil {
		log.Info("the trash waits", "error", err.Error())
		return
	}
	defer o.Close()
	if err := backend.Sweep(ctx, o.root, t.layout, log); err != nil {
		log.Info("the trash is not empty yet", "error", err.Error())
	}
	if t.layout == schema.Block {
		if err := o.blocks().SweepLeft(log); err != nil {
			log.Info("something of copies that were cut off is left", "error", err.Error())
		}
	}
}

// all asks for a turn of every pool: at the start, and now and then.
func (s *sweeper) all() {
	names, err := s.d.Catalog.Names()
	if err != nil {
		return
	}
	for _, name := range names {
		p, err := s.d.Catalog.Pool(name)
		if err != nil {
			continue
		}
		for _, layout := range p.Layouts {
			s.wake(name, layout)
		}
	}
}
