package driver

import (
	"context"
	"time"

	"github.com/atoll-storage/atoll/csi/catalog"
)

// usageEvery is how often pools are asked for what they have, for the metrics.
const usageEvery = time.Minute

// usage keeps the metrics of what pools have, use and have promised, until the context ends.
func (c *controller) usage(ctx context.Context) {
	tick := time.NewTicker(usageEvery)
	defer tick.Stop()
	for {
		names, err := c.d.Catalog.Names()
		if err != nil {
			c.d.Log.Info("what pools use is not known", "error", err.Error())
		}
		m := c.d.measures()
		m.forget(names)
		for _, name := range names {
			if p, err := c.d.Catalog.Pool(name); err == nil && len(p.Layouts) > 0 {
				c.usageOf(ctx, p, m)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// usageOf asks one pool. One that does not answer keeps its last numbers: its bricks have
// metrics of their own that say so.
func (c *controller) usageOf(ctx context.Context, p catalog.Pool, m *metrics) {
	ctx, cancel := context.WithTimeout(ctx, statsLimit)
	defer cancel()
	o, err := c.d.openPool(ctx, p, p.Layouts[0])
	if err != nil {
		return
	}
	defer o.Close()
	l, err := c.ledgers.of(ctx, o)
	if err != nil {
		return
	}
	space, err := o.space()
	if err != nil {
		return
	}
	promised, volumes := l.Promised()
	m.size.WithLabelValues(p.Pool).Set(float64(space.Total))
	m.used.WithLabelValues(p.Pool).Set(float64(space.Used))
	m.promised.WithLabelValues(p.Pool).Set(float64(promised))
	m.volumes.WithLabelValues(p.Pool).Set(float64(volumes))
}
