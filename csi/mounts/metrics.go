package mounts

import "github.com/prometheus/client_golang/prometheus"

// metrics count what happens to the clients.
type metrics struct {
	registry *prometheus.Registry
	starts   *prometheus.CounterVec
	failures *prometheus.CounterVec
	hung     *prometheus.GaugeVec
	away     *prometheus.GaugeVec
}

func newMetrics(running func() int) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_client_starts_total",
			Help: "GlusterFS clients that were started and responded; more than one for a pool means that one has died.",
		}, []string{"pool"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "atoll_client_start_failures_total",
			Help: "GlusterFS clients that could not be started or did not respond in time.",
		}, []string{"pool"}),
		hung: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atoll_client_hangs", Help: "1 while a GlusterFS client runs and does not answer.",
		}, []string{"pool"}),
		away: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "atoll_client_bricks_away", Help: "Bricks that a running GlusterFS client is not connected to.",
		}, []string{"pool", "layout"}),
	}
	m.registry.MustRegister(m.starts, m.failures, m.hung, m.away, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "atoll_clients_running", Help: "GlusterFS clients of this process that are running.",
	}, func() float64 { return float64(running()) }))
	return m
}

// Metrics returns the metrics of the clients.
func (c *Clients) Metrics() prometheus.Gatherer { return c.metrics.registry }

// countRunning counts the clients whose process has not ended.
func (c *Clients) countRunning() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, cl := range c.clients {
		if cl.running.Load() {
			n++
		}
	}
	return n
}
