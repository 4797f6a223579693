package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/brick/join"
	wire "github.com/atoll-storage/atoll/internal/agent"
)

func newJoin() *cobra.Command {
	var b join.Brick
	cmd := &cobra.Command{
		Use: "join", Short: "Wait until it is certain whether a new brick founds its set or is healed from it",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b.Log = logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil)).WithValues("pool", b.Pool, "brick",
				b.Position)
			if err := b.Run(cmd.Context()); err != nil {
				return fmt.Errorf("pool %s, brick %s: %w", b.Pool, b.Position, err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.Pool, "pool", "", "name of the pool")
	f.StringVar(&b.Position, "brick", "", "index of the brick")
	f.StringVar(&b.Directory, "directory", "", "directory of the brick")
	f.StringVar(&b.Volfile, "volfile", "", "volfile of the self-heal daemon")
	f.IntVar(&b.AgentPort, "agent-port", wire.Port, "port of the bricks' agents")
	for _, name := range []string{"pool", "brick", "directory", "volfile"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists
	}
	return cmd
}
