// Package capacity knows how much of each pool is provisioned, and so how much is free for
// new volumes.
package capacity

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
)

// Ledgers are the ledgers of pools, each read from the pool's records when it is first needed.
type Ledgers struct {
	Pools pool.Opener
	Log   logr.Logger

	mu   sync.Mutex
	each map[string]*ledger
}

// ledger is the ledger of one pool.
type ledger struct {
	mu      sync.Mutex
	l       *backend.Ledger // nil until it is read
	reading chan struct{}   // closed when the current reading ends; nil when none runs
	err     error           // of the last reading
}

// readLimit is how long reading the records of a pool may take. No call lasts so long:
// reading continues after the call that started it has ended.
const readLimit = 10 * time.Minute

// Of returns the ledger of a pool. Waiting for one pool never blocks another.
func (s *Ledgers) Of(ctx context.Context, h *pool.Handle) (*backend.Ledger, error) {
	l := s.ledger(h.Pool)
	l.mu.Lock()
	if l.l != nil {
		defer l.mu.Unlock()
		return l.l, nil
	}
	if l.reading == nil {
		l.reading = make(chan struct{})
		go s.read(l, h.Pool)
	}
	reading := l.reading
	l.mu.Unlock()
	select {
	case <-reading:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: pool %s (%w)", rpc.ErrReading, h.Name(), ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.l == nil {
		return nil, fmt.Errorf("read the volumes of pool %s: %w", h.Name(), l.err)
	}
	return l.l, nil
}

// ledger returns the ledger of a pool. Another GlusterFS volume under the same name is another
// pool.
func (s *Ledgers) ledger(p catalog.Pool) *ledger {
	key := p.Pool + " " + p.VolumeID
	if p.External != nil {
		key += p.External.Volume
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.each == nil {
		s.each = map[string]*ledger{}
	}
	if s.each[key] == nil {
		s.each[key] = &ledger{}
	}
	return s.each[key]
}

// read lists the volumes, even if the call that needed them has ended.
func (s *Ledgers) read(l *ledger, p catalog.Pool) {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	begin := time.Now()
	volumes, err := provisioned(ctx, s.Pools, p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err = err; err == nil {
		l.l = backend.NewLedger(volumes)
		s.Log.Info("read the records of a pool", "pool", p.Pool, "volumes", len(volumes), "took",
			time.Since(begin).String())
	}
	close(l.reading)
	l.reading = nil
}

// provisioned lists the volumes of all layouts of a pool, and its snapshots, by their keys in
// the ledger.
func provisioned(ctx context.Context, pools pool.Opener, p catalog.Pool) ([]backend.Volume, error) {
	var all []backend.Volume
	for _, layout := range p.Layouts {
		h, err := pools.OpenPool(ctx, p, layout)
		if err != nil {
			return nil, err
		}
		volumes, err := h.Backend.List(ctx)
		h.Close()
		if err != nil {
			return nil, err
		}
		for _, v := range volumes {
			v.Name = Key(layout, v.Name)
			all = append(all, v)
		}
		if layout == schema.Block {
			snapshots, err := pools.Snapshots(ctx, p)
			if err != nil {
				return nil, err
			}
			for _, s := range snapshots {
				all = append(all, backend.Volume{Name: backend.SnapshotKey(s.Name), Size: s.Used})
			}
		}
	}
	return all, nil
}

// Key is the key of a volume in the ledger: a pool may have a volume of each layout under one
// name.
func Key(layout schema.Layout, name string) string {
	if layout == schema.Block {
		return "block/" + name
	}
	return name
}

// Free returns how much can still be provisioned in a pool, in bytes.
func (s *Ledgers) Free(ctx context.Context, h *pool.Handle, overcommit float64) (int64, error) {
	l, err := s.Of(ctx, h)
	if err != nil {
		return 0, err
	}
	space, err := h.Space()
	if err != nil {
		return 0, err
	}
	if h.Layout == schema.Single {
		if _, volumes := l.Provisioned(); volumes > 0 {
			return 0, nil
		}
		return space.Total, nil
	}
	return l.Free(space, overcommit), nil
}

// Warm starts reading the pools of the catalog, so that the first calls after a start find
// them read.
func (s *Ledgers) Warm(ctx context.Context) {
	names, err := s.Pools.Catalog.Names()
	if err != nil {
		return // every call reports it
	}
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			p, err := s.Pools.Catalog.Pool(name)
			if err != nil || len(p.Layouts) == 0 {
				return
			}
			h, err := s.Pools.OpenPool(ctx, p, p.Layouts[0])
			if err != nil {
				s.Log.Info("pool not readable yet", "pool", name, "error", err.Error())
				return
			}
			defer h.Close()
			_, _ = s.Of(ctx, h) // the next call reports errors
		})
	}
	all.Wait()
}
