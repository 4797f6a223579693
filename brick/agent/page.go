package agent

import (
	"bytes"
	"context"
	"net/http"
)

// page is an answer that many callers get.
type page struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header is part of http.ResponseWriter.
func (p *page) Header() http.Header { return p.header }

// WriteHeader is part of http.ResponseWriter.
func (p *page) WriteHeader(status int) { p.status = status }

// Write is part of http.ResponseWriter.
func (p *page) Write(text []byte) (int, error) { return p.body.Write(text) }

// sharedPage answers from a page that is made for all callers. They all get the same, whatever
// format or encoding they prefer.
func sharedPage(kept *shared[page], path string, h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p, err := kept.get(r.Context(), func(ctx context.Context) (page, error) {
			p := page{status: http.StatusOK, header: http.Header{}}
			plain, err := http.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody)
			if err == nil {
				h.ServeHTTP(&p, plain)
			}
			return p, err
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		for name, values := range p.header {
			w.Header()[name] = values
		}
		w.WriteHeader(p.status)
		_, _ = w.Write(p.body.Bytes()) // fails if the caller has disconnected
	}
}
