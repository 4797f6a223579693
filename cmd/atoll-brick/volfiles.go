package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-storage/atoll/brick/volfiles"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/httpserver"
)

func newVolfiles() *cobra.Command {
	s := volfiles.Server{Log: logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil))}
	var listen, health, agentAddress string
	cmd := &cobra.Command{
		Use: "volfiles", Short: "Serve volfiles to the daemons of a brick pod, and notify them of changes",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen for volfile requests: %w", err)
			}
			if agentAddress != "" {
				s.Replaced = replaced(agentAddress)
			}
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error { return s.Run(ctx, l) })
			g.Go(func() error { return serve(ctx, health, alive()) })
			return g.Wait()
		},
	}
	f := cmd.Flags()
	f.StringToStringVar(&s.Files, "volfile", nil, "name=path of a volfile to serve; may be repeated")
	f.StringVar(&listen, "listen", "127.0.0.1:24011", "address to serve on")
	f.DurationVar(&s.Hold, "hold", volfiles.Hold,
		"how long a brick continues to admit clients whose graph has fewer replicas")
	f.StringVar(&agentAddress, "agent", "",
		"address of the brick's agent, which knows whether another brick has replaced this one; empty if none can")
	f.StringVar(&health, "health", ":24012", "address of /healthz")
	_ = cmd.MarkFlagRequired("volfile") // the flag exists
	return cmd
}

// replaced asks the agent at an address why its brick must not serve any more.
func replaced(address string) func(context.Context) (string, error) {
	var client agent.Client
	return func(ctx context.Context) (string, error) {
		s, err := client.Status(ctx, address)
		return s.Replaced, err
	}
}

// alive serves /healthz.
func alive() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

// serve serves HTTP on an address until the context ends.
func serve(ctx context.Context, address string, handler http.Handler) error {
	return httpserver.Listen(ctx, &http.Server{Handler: handler, ReadTimeout: 10 * time.Second}, address)
}
