package main

import (
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-storage/atoll/brick/quotad"
)

func newQuotad() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use: "quotad", Short: "Enforce the sizes of volumes on a host of an External cluster", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := quotad.ReadConfig(config)
			if err != nil {
				return err
			}
			d := &quotad.Daemon{Config: c, Log: logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil))}
			handler := d.Handler()
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error { return d.Run(ctx) })
			g.Go(func() error { return serve(ctx, c.Listen, handler) })
			return g.Wait()
		},
	}
	cmd.Flags().StringVar(&config, "config", "/etc/atoll/quotad.yaml", "configuration")
	return cmd
}
