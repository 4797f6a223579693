package background

import (
	"context"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/controller/capacity"
)

// usageEvery is how often pools are measured.
const usageEvery = time.Minute

// usageLimit is how long measuring one pool may take.
const usageLimit = 5 * time.Second

// Usage keeps the metrics of what pools have, use and have provisioned.
type Usage struct {
	ledgers *capacity.Ledgers
	log     logr.Logger

	registry                      *prometheus.Registry
	size, used, promised, volumes *prometheus.GaugeVec // by pool
	known                         []string             // pools with numbers
}

// NewUsage returns the metrics of the pools of ledgers.
func NewUsage(ledgers *capacity.Ledgers, log logr.Logger) *Usage {
	u := &Usage{
		ledgers: ledgers, log: log, registry: prometheus.NewRegistry(),
		size: byPool("atoll_pool_size_bytes", "What the pool has."),
		used: byPool("atoll_pool_used_bytes", "What of it is used, by volumes and by everything else."),
		promised: byPool("atoll_pool_promised_bytes",
			"Sum of the sizes of its volumes: more than the pool has where classes overcommit."),
		volumes: byPool("atoll_pool_volumes", "Volumes of the pool, of all layouts, and snapshots."),
	}
	u.registry.MustRegister(u.size, u.used, u.promised, u.volumes)
	return u
}

func byPool(name, help string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"pool"})
}

// Metrics returns the metrics.
func (u *Usage) Metrics() prometheus.Gatherer { return u.registry }

// Run measures all pools until the context ends.
func (u *Usage) Run(ctx context.Context) {
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	pools := u.ledgers.Pools.Catalog
	for {
		names, err := pools.Names()
		if err != nil {
			u.log.Info("usage of pools unknown", "error", err.Error())
		}
		u.forgetOthers(names)
		for _, name := range names {
			if p, err := pools.Pool(name); err == nil && len(p.Layouts) > 0 {
				u.measure(ctx, p)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// measure measures one pool. A pool that does not answer keeps its last numbers: its bricks
// have metrics that show it.
func (u *Usage) measure(ctx context.Context, p catalog.Pool) {
	ctx, cancel := context.WithTimeout(ctx, usageLimit)
	defer cancel()
	h, err := u.ledgers.Pools.OpenPool(ctx, p, p.Layouts[0])
	if err != nil {
		return
	}
	defer h.Close()
	l, err := u.ledgers.Of(ctx, h)
	if err != nil {
		return
	}
	space, err := h.Space()
	if err != nil {
		return
	}
	promised, volumes := l.Provisioned()
	u.size.WithLabelValues(p.Pool).Set(float64(space.Total))
	u.used.WithLabelValues(p.Pool).Set(float64(space.Used))
	u.promised.WithLabelValues(p.Pool).Set(float64(promised))
	u.volumes.WithLabelValues(p.Pool).Set(float64(volumes))
}

// forgetOthers drops the metrics of pools that are no longer in the catalog.
func (u *Usage) forgetOthers(names []string) {
	for _, name := range u.known {
		if !slices.Contains(names, name) {
			for _, g := range []*prometheus.GaugeVec{u.size, u.used, u.promised, u.volumes} {
				g.DeleteLabelValues(name)
			}
		}
	}
	u.known = names
}
