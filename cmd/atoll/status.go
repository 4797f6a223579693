package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/reconciler/status"
)

// statusFlags are the flags of get and status.
type statusFlags struct {
	cluster           clusterFlags
	namespace, output string
	watch             bool
}

// watchInterval is how often --watch lists the pools, and listTimeout bounds each list.
const (
	watchInterval = 2 * time.Second
	listTimeout   = 30 * time.Second
)

func (f *statusFlags) add(cmd *cobra.Command) *cobra.Command {
	f.cluster.add(cmd)
	cmd.Flags().StringVarP(&f.namespace, "namespace", "n", "", "namespace of the pools; default is all namespaces")
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table|json|yaml")
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "keep watching, and print the pools after each change")
	return cmd
}

func newGet() *cobra.Command {
	f := &statusFlags{}
	return f.add(&cobra.Command{
		Use: "get", Short: "List the pools of a cluster", Args: cobra.NoArgs,
		Example: "  atoll get\n  atoll get -n atoll-system -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, "", printPools)
		},
	})
}

func newStatus() *cobra.Command {
	f := &statusFlags{}
	return f.add(&cobra.Command{
		Use: "status POOL", Short: "Show the health of a pool and its bricks, with reasons", Args: cobra.ExactArgs(1),
		Example: "  atoll status fast\n  atoll status fast --watch",
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.run(cmd, args[0], printDetails)
		},
	})
}

var errNoPool = errors.New("not found in the cluster; 'atoll get' lists all pools")

// run prints pools once, or with --watch after each change.
func (f *statusFlags) run(cmd *cobra.Command, name string,
	table func(w io.Writer, paint painter, all []status.Pool),
) error {
	config, err := f.cluster.config()
	if err != nil {
		return err
	}
	c, err := status.Connect(config)
	if err != nil {
		return err
	}
	for last := ""; ; {
		all, err := f.list(cmd.Context(), c, name)
		if err != nil {
			return err
		}
		if now := fmt.Sprint(all); now != last {
			last = now
			if f.output != "table" {
				err = printValue(cmd, f.output, all, func() {})
			} else {
				table(cmd.OutOrStdout(), painterFor(cmd.OutOrStdout()), all)
			}
			if err != nil {
				return err
			}
		}
		if !f.watch {
			return nil
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(watchInterval):
		}
	}
}

func (f *statusFlags) list(ctx context.Context, c client.Reader, name string) ([]status.Pool, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	all, err := status.List(ctx, c, f.namespace)
	if err != nil || name == "" {
		return all, err
	}
	all = slices.DeleteFunc(all, func(p status.Pool) bool { return p.Name != name })
	if len(all) == 0 {
		return nil, fmt.Errorf("pool %s: %w", name, errNoPool)
	}
	return all, nil
}

// painter colours a word green if it is good, else red. It adds no colour outside of a terminal.
type painter func(good bool, text string) string

func painterFor(w io.Writer) painter {
	f, terminal := w.(*os.File)
	if terminal {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		terminal = err == nil
	}
	if !terminal || os.Getenv("NO_COLOR") != "" {
		return func(_ bool, text string) string { return text }
	}
	return func(good bool, text string) string {
		colour := map[bool]string{true: "32", false: "31"}[good] // green, red
		return "\x1b[" + colour + "m" + text + "\x1b[0m"
	}
}

func printPools(w io.Writer, paint painter, all []status.Pool) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAMESPACE\tNAME\tTYPE\tBRICKS\tTO HEAL\tVOLUMES\tFREE\tPROVISIONED\tREADY\tSTATUS")
	for _, p := range all {
		ready, reason := "Unknown", "not reconciled yet"
		for _, c := range p.Status.Conditions {
			if c.Type == "Ready" {
				ready, reason = string(c.Status), c.Reason
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", p.Namespace, p.Name, p.Type, p.Status.BricksOnline,
			backlog(p.Status.Backlog), p.Status.Volumes, freeSpace(p), provisioned(p),
			paint(ready == "True", ready), reason)
	}
	_ = t.Flush() // errors of the output are ignored, as in all prints
}

func backlog(n int64) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// freeSpace shows the free space of a pool, "?" when unknown.
func freeSpace(p status.Pool) string {
	if p.Status.SizeBytes == 0 {
		return "?"
	}
	return fmt.Sprintf("%s of %s", size(p.Status.FreeBytes), size(p.Status.SizeBytes))
}

// provisioned shows the sum of the sizes of a pool's volumes, "?" when unknown.
func provisioned(p status.Pool) string {
	if p.Status.PromisedBytes == nil {
		return "?"
	}
	return size(*p.Status.PromisedBytes)
}

// size formats bytes with a binary unit.
func size(bytes int64) string {
	value, units := float64(bytes), []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	i := 0
	for ; value >= 1024 && i < len(units)-1; i++ {
		value /= 1024
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", value), ".0") + " " + units[i]
}

func printDetails(w io.Writer, paint painter, all []status.Pool) {
	for _, p := range all {
		s := p.Status
		fmt.Fprintf(w, "%s %s/%s  %s  revision %s\n", p.Kind, p.Namespace, p.Name, p.Type, s.LastAppliedRevision)
		fmt.Fprintf(w, "bricks %s online, %s entries to heal, %d volumes, %s free, %s provisioned\n\n", s.BricksOnline,
			backlog(s.Backlog), s.Volumes, freeSpace(p), provisioned(p))
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, c := range s.Conditions {
			good := (c.Status == "True") != (c.Type == "Stalled" || c.Type == "Reconciling")
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", c.Type, paint(good, string(c.Status)), c.Reason,
				strings.ReplaceAll(c.Message, "\n", " "))
		}
		_ = t.Flush()
		if len(s.Bricks) > 0 {
			fmt.Fprintln(t, "\nBRICK\tNODE\tPLACE\tADDRESS\tPHASE\tTO HEAL\tREMARKS")
			for _, b := range s.Bricks {
				remarks := b.Message
				if b.Outdated {
					remarks = strings.TrimPrefix(remarks+"; outdated, to be restarted", "; ")
				}
				fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%s\n", b.Index, b.Node, b.Place, b.Address,
					paint(b.Online, string(b.Phase)), b.Backlog, remarks)
			}
			_ = t.Flush()
		}
	}
}
