package main

import (
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/brick/supervise"
)

func newSupervise() *cobra.Command {
	d := supervise.Daemon{Limits: supervise.DefaultLimits}
	cmd := &cobra.Command{
		Use: "supervise --name NAME --records DIR -- PROGRAM [ARGUMENT...]", Args: cobra.MinimumNArgs(1),
		Short: "Run a daemon, and start it again when it crashes",
		RunE: func(cmd *cobra.Command, args []string) error {
			d.Command = args
			d.Log = logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil))
			return d.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.Name, "name", "", "name of the daemon in its record")
	f.StringVar(&d.Records, "records", "", "directory that records crashes and outlives the container")
	for _, name := range []string{"name", "records"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists
	}
	return cmd
}
