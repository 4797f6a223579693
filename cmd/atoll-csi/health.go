package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/atoll-storage/atoll/internal/httpserver"
)

// health serves the health and the metrics of a role over HTTP.
type health struct {
	check   func() error // for /healthz: an error if a restart would help
	metrics prometheus.Gatherer
}

// serve serves /healthz for a liveness probe, and /metrics, until the context ends. Without an
// address it serves nothing.
func (h health) serve(ctx context.Context, address string) error {
	if address == "" {
		return nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("/metrics", promhttp.HandlerFor(h.metrics, promhttp.HandlerOpts{}))
	return httpserver.Listen(ctx, &http.Server{Handler: mux}, address)
}
