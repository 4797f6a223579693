package mounts

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/socket"
)

// Server is the mount server: it keeps the clients and block devices of a node in a process
// of its own, so that the node plugin can be restarted and replaced under running pods.
type Server struct {
	Catalog catalog.Folder
	Clients *Clients
	Devices *blockdev.Manager // nil: no block volumes
}

// Serve serves on a unix socket that only root can use until the context ends.
func (s *Server) Serve(ctx context.Context, path string) error {
	return serve(ctx, s.calls(), path)
}

func serve(ctx context.Context, calls http.Handler, path string) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return socket.ServeHTTP(ctx, &http.Server{
		Handler: acceptGRPC(calls), Protocols: &protocols, ReadHeaderTimeout: 5 * time.Second,
	}, path)
}

func (s *Server) calls() http.Handler {
	mux := http.NewServeMux()
	handle(mux, pathRoot, s.root)
	handle(mux, pathClients, func(ctx context.Context, _ empty) (a clientsResponse, err error) {
		devices, err := s.Clients.Devices(ctx)
		a.Devices = slices.Sorted(maps.Keys(devices))
		maps.DeleteFunc(devices, func(_ string, answers bool) bool { return answers })
		a.Hung = slices.Sorted(maps.Keys(devices))
		return a, err
	})
	if d := s.Devices; d != nil {
		handle(mux, pathAttach, func(ctx context.Context, r blockRequest) (a deviceResponse, err error) {
			a.Device, err = d.Attach(ctx, r.Pool, r.Name)
			return a, err
		})
		handle(mux, pathDetach, func(ctx context.Context, r blockRequest) (empty, error) {
			return empty{}, d.Detach(ctx, r.Pool, r.Name)
		})
		handle(mux, pathFormatted, func(ctx context.Context, r blockRequest) (empty, error) {
			return empty{}, d.MarkFormatted(ctx, r.Pool, r.Name, r.FileSystem)
		})
		handle(mux, pathGrow, func(ctx context.Context, r blockRequest) (a deviceResponse, err error) {
			a.Device, err = d.Grow(ctx, r.Pool, r.Name)
			return a, err
		})
		handle(mux, pathLost, func(ctx context.Context, _ blockRequest) (blockdev.Losses, error) { return d.Lost(ctx) })
	}
	return mux
}

func (s *Server) root(ctx context.Context, r rootRequest) (rootResponse, error) {
	p, err := s.Catalog.Pool(r.Pool)
	if err != nil {
		return rootResponse{}, remoteError{err.Error(), catalog.ErrNoPool}
	}
	path, err := s.Clients.Root(ctx, p, r.Layout)
	return rootResponse{path}, err
}

// handle serves one call. Its context ends at the caller's deadline, or when the caller gives
// up.
func handle[Request, Response any](
	mux *http.ServeMux, path string, do func(context.Context, Request) (Response, error),
) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var request Request
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxMessage)).Decode(&request); err != nil {
			http.Error(w, "decode the request: "+err.Error(), http.StatusBadRequest)
			return
		}
		ctx := r.Context()
		if limit, err := time.ParseDuration(r.Header.Get(headerTimeout)); err == nil {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		response, err := do(ctx, request)
		if err != nil {
			name, status := nameOf(err)
			w.Header().Set(headerError, name)
			http.Error(w, err.Error(), status)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(response) // fails only if the caller has given up
	})
}
