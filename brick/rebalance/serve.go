package rebalance

import (
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler serves /healthz, /readyz, which is ok when all files are in the wanted layout,
// and /metrics.
func (r *Rebalancer) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := r.Settled(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(r.registry(), promhttp.HandlerOpts{}))
	return mux
}

func (r *Rebalancer) registry() *prometheus.Registry {
	all := prometheus.NewRegistry()
	gauge := func(name, help string, value func() float64) {
		all.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: name, Help: help, ConstLabels: prometheus.Labels{"namespace": r.Namespace, "pool": r.Pool},
		}, value))
	}
	gauge("atoll_rebalance_settled", "1 when all files are in the layout of the pool's document.", func() float64 {
		if r.Settled() != nil {
			return 0
		}
		return 1
	})
	gauge("atoll_rebalance_looked_at_files", "Files that the last rebalance has scanned.",
		func() float64 { return float64(r.Last().Scanned) })
	gauge("atoll_rebalance_moved_files", "Files that the last rebalance has moved.",
		func() float64 { return float64(r.Last().Moved) })
	gauge("atoll_rebalance_moved_bytes", "Bytes that the last rebalance has moved.",
		func() float64 { return float64(r.Last().Bytes) })
	gauge("atoll_rebalance_failed_files", "Files that the last rebalance could not move.",
		func() float64 { return float64(r.Last().Failed) })
	gauge("atoll_rebalance_skipped_files",
		"Files that the last rebalance left in place, for example because the target has less free space.",
		func() float64 { return float64(r.Last().Skipped) })
	return all
}
