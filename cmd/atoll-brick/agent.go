package main

import (
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-storage/atoll/brick/agent"
	wire "github.com/atoll-storage/atoll/internal/agent"
)

func newAgent() *cobra.Command {
	var b agent.Brick
	var listen, keys, volfile, socket, records string
	var grow bool
	var freshFor, settleFor time.Duration
	cmd := &cobra.Command{
		Use: "agent", Short: "Enforce the sizes of a brick's volumes, and report the brick's state", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := agent.New(b, logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil)))
			if err != nil {
				return err
			}
			defer a.Close()
			h := &agent.Healer{
				Agent: a, Keys: func() (wire.Keys, error) { return wire.ReadKeys(keys) },
				Volfile: volfile, Socket: socket, AgentPort: portOf(listen), FreshFor: freshFor, SettleFor: settleFor,
			}
			s := &agent.Server{
				Agent: a, Keys: func() (wire.Keys, error) { return wire.ReadKeys(keys) }, Records: records,
			}
			g, ctx := errgroup.WithContext(cmd.Context())
			g.Go(func() error { return a.Run(ctx) })
			g.Go(func() error { return a.Count(ctx) })
			if grow {
				g.Go(func() error { return a.Grow(ctx) })
			}
			if volfile != "" {
				s.Healer = h
				g.Go(func() error { return h.Run(ctx) })
			}
			g.Go(func() error { return s.Serve(ctx, listen) })
			return g.Wait()
		},
	}
	f := cmd.Flags()
	f.StringVar(&b.Namespace, "namespace", "", "namespace of the pool")
	f.StringVar(&b.Pool, "pool", "", "name of the pool")
	f.StringVar(&b.Position, "brick", "", "index of the brick")
	f.StringVar(&b.Directory, "directory", "", "directory of the brick")
	f.Int64Var(&b.Parts, "parts", 1,
		"number of bricks that share a volume's data: the data bricks of a Disperse set, 1 for other types")
	f.BoolVar(&b.Advisory, "advisory", false, "set no limits, even if the file system supports them")
	f.IntVar(&b.Port, "port", 24007, "port of the brick's glusterfsd on this host")
	f.BoolVar(&grow, "grow", false, "grow the brick's XFS when its device has grown; the device must be the brick's own")
	f.DurationVar(&freshFor, "fresh-for", agent.FreshFor,
		"how long no heals may have been pending before a new brick counts as complete")
	f.DurationVar(&settleFor, "settle-for", agent.SettleFor,
		"how long a brick that has been offline must be online before it counts as complete")
	f.StringVar(&listen, "listen", ":"+strconv.Itoa(wire.Port), "address to serve on")
	f.StringVar(&volfile, "heal-volfile", "",
		"volfile of the self-heal daemon beside the brick; empty if the set has one brick")
	f.StringVar(&socket, "heal-socket", "/run/gluster/heal.sock", "socket of the self-heal daemon")
	f.StringVar(&records, "records", "", "directory in which the supervisors of the pod's daemons record crashes")
	f.StringVar(&keys, "keys", "/etc/atoll/agent-keys", "directory with the keys that authenticate requests")
	for _, name := range []string{"namespace", "pool", "brick", "directory"} {
		_ = cmd.MarkFlagRequired(name) // the flag exists
	}
	return cmd
}

// portOf is the port of an address to listen on. The agents of all bricks use the same port.
func portOf(address string) int {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port) // listening on a bad address fails with a clear error
	return n
}
