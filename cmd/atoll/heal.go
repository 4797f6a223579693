package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/schema"
)

// healFlags are the flags of the commands below heal.
type healFlags struct{ catalog, keys, output string }

func newHeal() *cobra.Command {
	f := &healFlags{}
	cmd := &cobra.Command{
		Use:   "heal",
		Short: "Show the health of a pool's bricks, start heals, resolve split-brains",
		Long: `heal talks to the agents of a pool's bricks. Run it where they are reachable: inside the
cluster, for example in the pod of the CSI controller. It needs the pool's catalog entry
and, for everything but status, the keys of the agents. Agents heal by themselves; start
and full only make them start now.`,
	}
	cmd.PersistentFlags().StringVar(&f.catalog, "catalog", "/etc/atoll/catalog",
		"directory with a subdirectory for each pool")
	cmd.PersistentFlags().StringVar(&f.keys, "agent-keys", "/etc/atoll/agent-keys",
		"directory with the keys that authenticate to the agents")
	status := &cobra.Command{
		Use: "status [POOL]", Args: cobra.MaximumNArgs(1),
		Short: "List the bricks of a pool, or of all pools: online, pending heals, free space",
		RunE:  func(cmd *cobra.Command, args []string) error { return f.status(cmd, args) },
	}
	status.Flags().StringVarP(&f.output, "output", "o", "table", "table|json|yaml")
	start := func(use, short string, full bool) *cobra.Command {
		return &cobra.Command{
			Use: use, Short: short, Args: cobra.MaximumNArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return f.eachPool(args, func(pool string) error { return f.heal(cmd, pool, full) })
			},
		}
	}
	cmd.AddCommand(status,
		start("start [POOL]", "Heal the entries in the heal indices of the bricks", false),
		start("full [POOL]", "Compare and heal all files: for a new, empty brick", true))
	cmd.AddCommand(f.splitBrainCommands()...)
	return cmd
}

// brickLine is the status of one brick.
type brickLine struct {
	Pool   string        `json:"pool"`
	Index  int           `json:"index"`
	Host   string        `json:"host"`
	Node   string        `json:"node,omitempty"`
	Status *agent.Status `json:"status,omitempty"`
	Error  string        `json:"trouble,omitempty"`
}

// agentTimeout bounds the requests to the agents of a pool.
const agentTimeout = 10 * time.Second

// eachBrick calls do for the agents of all bricks concurrently. It returns the errors by brick.
func (f *healFlags) eachBrick(ctx context.Context, pool string,
	do func(ctx context.Context, p catalog.Pool, index int, at string) error,
) (catalog.Pool, []error, error) {
	p, err := catalog.Folder{Dir: f.catalog}.Pool(pool)
	if err != nil {
		return p, nil, err
	}
	if p.Type == schema.External {
		return p, nil, fmt.Errorf("pool %s is External; run 'gluster volume heal' on the cluster that serves it", pool)
	}
	ctx, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	errs := make([]error, len(p.Bricks))
	var wait sync.WaitGroup
	for i, b := range p.Bricks {
		if b.Agent == 0 {
			errs[i] = errors.New("the brick has no agent in the catalog; render and apply the pool again")
			continue
		}
		wait.Go(func() { errs[i] = do(ctx, p, i, net.JoinHostPort(b.Host, strconv.Itoa(b.Agent))) })
	}
	wait.Wait()
	return p, errs, nil
}

// eachPool calls do for the pool in the arguments, or for all pools with bricks in the cluster.
// It continues after an error.
func (f *healFlags) eachPool(args []string, do func(pool string) error) error {
	if len(args) > 0 {
		return do(args[0])
	}
	pools := catalog.Folder{Dir: f.catalog}
	names, err := pools.Names()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		p, err := pools.Pool(name)
		if err == nil && p.Type == schema.External {
			continue
		}
		if err == nil {
			err = do(name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("pool %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (f *healFlags) status(cmd *cobra.Command, args []string) error {
	var lines []brickLine
	failed := f.eachPool(args, func(pool string) error {
		more, err := f.lines(cmd.Context(), pool)
		lines = append(lines, more...)
		return err
	})
	if f.output != "table" {
		return errors.Join(printValue(cmd, f.output, lines, func() {}), failed)
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POOL\tBRICK\tNODE\tONLINE\tTO HEAL\tFREE\tREMARKS")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\n", l.Pool, l.row())
	}
	return errors.Join(w.Flush(), failed)
}

// lines queries the agents of one pool.
func (f *healFlags) lines(ctx context.Context, pool string) ([]brickLine, error) {
	var client agent.Client
	var mu sync.Mutex
	states := map[int]*agent.Status{}
	p, errs, err := f.eachBrick(ctx, pool, func(ctx context.Context, _ catalog.Pool, i int, at string) error {
		s, err := client.Status(ctx, at)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			states[i] = &s
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	lines := make([]brickLine, len(p.Bricks))
	for i, b := range p.Bricks {
		lines[i] = brickLine{Pool: pool, Index: i, Host: b.Host, Node: b.Node, Status: states[i]}
		if errs[i] != nil {
			lines[i].Error = errs[i].Error()
		}
	}
	return lines, nil
}

func (l brickLine) row() string {
	if l.Status == nil {
		return fmt.Sprintf("%d\t%s\tunknown\t\t\t%s", l.Index, l.Node, l.Error)
	}
	s := l.Status
	var remarks []string
	if s.Fresh {
		remarks = append(remarks, "new, being filled")
	}
	if s.SplitBrain > 0 {
		remarks = append(remarks, fmt.Sprintf("%d files in split-brain: atoll heal split-brain", s.SplitBrain))
	}
	if !s.Enforced {
		remarks = append(remarks, "sizes are advisory")
	}
	for host, reached := range s.Peers {
		if !reached {
			remarks = append(remarks, "cannot reach "+host)
		}
	}
	slices.Sort(remarks)
	free := "unknown"
	if s.Size > 0 {
		free = fmt.Sprintf("%d %%", s.Free*100/s.Size)
	}
	return fmt.Sprintf("%d\t%s\t%t\t%d\t%s\t%s", l.Index, l.Node, s.Online, s.Backlog, free,
		strings.Join(remarks, ", "))
}

func (f *healFlags) heal(cmd *cobra.Command, pool string, full bool) error {
	keys, err := agent.ReadKeys(f.keys)
	if err != nil {
		return err
	}
	var client agent.Client
	p, errs, err := f.eachBrick(cmd.Context(), pool, func(ctx context.Context, p catalog.Pool, i int, at string) error {
		audience := agent.Audience(p.Namespace, p.Pool, strconv.Itoa(i))
		return client.Heal(ctx, at, audience, agent.HealRequest{Full: full}, keys)
	})
	if err = errors.Join(err, byBrick(errs)); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "pool %s: heal started on %d bricks; atoll heal status %s shows the progress\n",
		p.Pool, len(p.Bricks), pool)
	return nil
}
