package main

import (
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-storage/atoll/brick/rebalance"
	wire "github.com/atoll-storage/atoll/internal/agent"
)

func newRebalance() *cobra.Command {
	var r rebalance.Rebalancer
	var keys, health string
	cmd := &cobra.Command{
		Use: "rebalance", Short: "Distribute a pool's files over its sets, and move them off leaving sets",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r.Log = logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil)).WithValues("pool", r.Pool)
			r.Keys = func() (wire.Keys, error) { return wire.ReadKeys(keys) }
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error { return r.Run(ctx) })
			g.Go(func() error { return serve(ctx, health, r.Handler()) })
			return g.Wait()
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Namespace, "namespace", "", "namespace of the pool")
	f.StringVar(&r.Pool, "pool", "", "name of the pool")
	f.StringVar(&r.Volfile, "volfile", "", "volfile of the rebalance")
	f.StringVar(&r.Layout, "layout", "", "layout to reach; while the volfile has another one, nothing is moved")
	f.StringVar(&r.Socket, "socket", "/run/gluster/rebalance.sock", "socket of the rebalance process")
	f.DurationVar(&r.Settle, "settle", 2*time.Minute, "how long all bricks must have answered before files are moved")
	f.IntVar(&r.AgentPort, "agent-port", wire.Port, "port of the bricks' agents")
	f.StringVar(&keys, "keys", "/etc/atoll/agent-keys", "directory with the keys that authenticate requests to agents")
	f.StringVar(&health, "health", ":24013", "address of /healthz, /readyz and /metrics")
	for _, name := range []string{"namespace", "pool", "volfile"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists
	}
	return cmd
}
