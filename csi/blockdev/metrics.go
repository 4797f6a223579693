package blockdev

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what happens to the volumes of a node.
type metrics struct {
	once     sync.Once
	registry *prometheus.Registry
	lost     *prometheus.CounterVec
	relocked *prometheus.CounterVec
	takeover *prometheus.CounterVec
}

func (m *Manager) collectors() *metrics {
	c := &m.metrics
	c.once.Do(func() {
		counter := func(name, help string) *prometheus.CounterVec {
			return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"pool"})
		}
		c.registry = prometheus.NewRegistry()
		c.lost = counter("atoll_block_volumes_lost_total",
			"Block volumes that this node has lost: their pods must be restarted.")
		c.relocked = counter("atoll_block_relocks_total",
			"Times that the block volumes of a pool were locked again on a brick that had returned.")
		c.takeover = counter("atoll_block_takeovers_total",
			"Block volumes that were taken over from a node that had not detached them.")
		c.registry.MustRegister(c.lost, c.relocked, c.takeover, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "atoll_block_volumes", Help: "Block volumes that are attached to this node.",
		}, func() float64 { return float64(m.count()) }))
	})
	return c
}

// Metrics returns the metrics of the node's block volumes.
func (m *Manager) Metrics() prometheus.Gatherer { return m.collectors().registry }

// count counts the attached volumes. A volume that a call is working on counts as before.
func (m *Manager) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, a := range m.attachments {
		if a.attached.Load() {
			n++
		}
	}
	return n
}
