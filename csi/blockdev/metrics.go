package blockdev

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of the volumes that a node has.
type metrics struct {
	once     sync.Once
	registry *prometheus.Registry
	lost     *prometheus.CounterVec
	relocked *prometheus.CounterVec
	takeover *prometheus.CounterVec
}

func (h *Manager) measures() *metrics {
	m := &h.metrics
	m.once.Do(func() {
		counter := func(name, help string) *prometheus.CounterVec {
			return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"pool"})
		}
		m.registry = prometheus.NewRegistry()
		m.lost = counter("atoll_block_volumes_lost_total", "Block volumes that this node has lost: their pods must be started anew.")
		m.relocked = counter("atoll_block_relocks_total", "Times that the block volumes of a pool were locked again on a brick that was back.")
		m.takeover = counter("atoll_block_takeovers_total", "Block volumes that were taken over from a node that did not give them back.")
		m.registry.MustRegister(m.lost, m.relocked, m.takeover, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "atoll_block_volumes", Help: "Block volumes that this node has.",
		}, func() float64 { return float64(h.count()) }))
	})
	return m
}

// Metrics are those of the volumes that the node has.
func (h *Manager) Metrics() prometheus.Gatherer { return h.measures().registry }

// count counts the volumes that are attached. One that is worked on is as it was.
func (h *Manager) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, one := range h.held {
		if one.attached.Load() {
			n++
		}
	}
	return n
}
