package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
)

// ledgers are the promises of pools, read from the records when first needed.
type ledgers struct {
	d    *Driver
	mu   sync.Mutex
	each map[string]*ledger
}

// ledger is that of one pool.
type ledger struct {
	mu      sync.Mutex
	l       *backend.Ledger // nil until it is read
	reading chan struct{}   // closed when who reads it now has ended; nil when nobody does
	err     error           // of the last reading
}

// readLimit is how long the records of a pool may take to be read. No call lasts so
// long: reading goes on when the one that began it has ended.
const readLimit = 10 * time.Minute

// errReading says that a pool's records are still being read.
var errReading = errors.New("the records of the pool are still being read after a start; repeat the call")

// of gives the ledger of a pool; while it is read, other pools go on.
func (s *ledgers) of(ctx context.Context, o *opened) (*backend.Ledger, error) {
	one := s.ledger(o.Pool)
	one.mu.Lock()
	if one.l != nil {
		defer one.mu.Unlock()
		return one.l, nil
	}
	if one.reading == nil {
		one.reading = make(chan struct{})
		go one.read(s.d, o.Pool)
	}
	reading := one.reading
	one.mu.Unlock()
	select {
	case <-reading:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: pool %s (%w)", errReading, o.Pool.Pool, ctx.Err())
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.l == nil {
		return nil, fmt.Errorf("reading the volumes of pool %s: %w", o.Pool.Pool, one.err)
	}
	return one.l, nil
}

// ledger finds that of a pool; another volume under its name is another pool.
func (s *ledgers) ledger(p catalog.Pool) *ledger {
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

// read lists the volumes, whatever becomes of the call that asked.
func (one *ledger) read(d *Driver, p catalog.Pool) {
	ctx, cancel := context.WithTimeout(context.Background(), readLimit)
	defer cancel()
	begin := time.Now()
	volumes, err := promises(ctx, d, p)
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.err = err; err == nil {
		one.l = backend.NewLedger(volumes)
		d.Log.Info("read the records of a pool", "pool", p.Pool, "volumes", len(volumes), "took", time.Since(begin).String())
	}
	close(one.reading)
	one.reading = nil
}

// promises lists the volumes of all layouts of a pool, by what the ledger calls them.
func promises(ctx context.Context, d *Driver, p catalog.Pool) ([]backend.Volume, error) {
	var all []backend.Volume
	for _, layout := range p.Layouts {
		o, err := d.openPool(ctx, p, layout)
		if err != nil {
			return nil, err
		}
		volumes, err := o.backend.List(ctx)
		o.Close()
		if err != nil {
			return nil, err
		}
		for _, v := range volumes {
			v.Name = promise(layout, v.Name)
			all = append(all, v)
		}
		if layout == schema.Block {
			snapshots, err := snapshotsOf(ctx, d, p)
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

// snapshotsOf lists the snapshots in a pool that serves blocks.
func snapshotsOf(ctx context.Context, d *Driver, p catalog.Pool) ([]backend.Snapshot, error) {
	o, err := d.openPool(ctx, p, schema.Block)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return o.blocks().Snapshots(ctx)
}

// promise is what the ledger calls a volume: a pool may have one of each layout of a name.
func promise(layout schema.Layout, name string) string {
	if layout == schema.Block {
		return "block/" + name
	}
	return name
}

// warm begins to read the pools of the catalog, so that the first calls after a
// start find them read.
func (s *ledgers) warm(ctx context.Context) {
	names, err := s.d.Catalog.Names()
	if err != nil {
		return // every call says so
	}
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			p, err := s.d.Catalog.Pool(name)
			if err != nil || len(p.Layouts) == 0 {
				return
			}
			o, err := s.d.openPool(ctx, p, p.Layouts[0])
			if err != nil {
				s.d.Log.Info("a pool cannot be read yet", "pool", name, "error", err.Error())
				return
			}
			defer o.Close()
			_, _ = s.of(ctx, o) // the next call finds what was wrong
		})
	}
	all.Wait()
}
