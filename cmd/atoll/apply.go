package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/reconciler/pools"
	"github.com/atoll-storage/atoll/reconciler/status"
	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
	"github.com/atoll-storage/atoll/schema"
)

// applyFlags are the flags of apply.
type applyFlags struct {
	cluster        clusterFlags
	output, dryRun string
	wait, prune    bool
	timeout        time.Duration
	render         *render.Options
}

func newApply() *cobra.Command {
	f := &applyFlags{}
	cmd := &cobra.Command{
		Use:   "apply [PATH...]",
		Short: "Apply the objects of pool documents to a cluster",
		Long: `apply renders documents and applies the objects that differ from those in the cluster.
It first asks the API server for a dry run of all objects of a pool. If one is rejected,
nothing of that pool is applied. Objects that were applied before and are no longer
rendered are deleted, except those that serve a brick or have its data, and StorageClasses
that volumes use: they are kept and listed. Pools that are not among the documents stay
unchanged.`,
		Example: "  atoll apply --dry-run pools/\n  atoll apply --wait pools/fast.yaml",
	}
	f.render = renderFlags(cmd)
	f.cluster.add(cmd)
	cmd.Flags().StringVar(&f.dryRun, "dry-run", "", "server: ask the API server for a dry run, and apply nothing")
	cmd.Flags().Lookup("dry-run").NoOptDefVal = "server"
	cmd.Flags().BoolVar(&f.prune, "prune", false,
		"remove pools that apply created but the documents do not have, if empty and with deletionPolicy: Delete")
	cmd.Flags().BoolVar(&f.wait, "wait", false, "wait until all applied objects are ready")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 5*time.Minute, "time limit for each pool, waiting included")
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table|json|yaml")
	cmd.RunE = f.run
	return cmd
}

func (f *applyFlags) run(cmd *cobra.Command, paths []string) error {
	if f.dryRun != "" && f.dryRun != "server" {
		return fmt.Errorf("invalid --dry-run %q; allowed is server", f.dryRun)
	}
	result, err := load(cmd, paths)
	if err != nil {
		return err
	}
	config, err := f.cluster.config()
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 50, 100 // a pool with many bricks causes many small requests
	a, err := apply.New(config)
	if err != nil {
		return err
	}
	all, errs := []apply.Result{}, []error{}
	documents := documentsOf(result)
	for _, p := range documents {
		r, err := f.applyPool(cmd.Context(), cmd.ErrOrStderr(), a, p)
		all = append(all, r)
		if err != nil { // continue with the other pools
			errs = append(errs, err)
		}
	}
	if f.prune {
		pruned, err := f.prunePools(cmd.Context(), cmd.ErrOrStderr(), a, config, documents)
		all, errs = append(all, pruned...), append(errs, err)
	}
	return errors.Join(f.print(cmd, all), errors.Join(errs...))
}

// applyPool applies one pool, or plans it with --dry-run.
func (f *applyFlags) applyPool(ctx context.Context, messages io.Writer, a *apply.Applier,
	document *schema.Pool,
) (apply.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	name := document.Metadata.Name
	p, err := apply.Render(document, *f.render)
	if err != nil {
		return apply.Result{Pool: name, Namespace: p.Namespace}, err
	}
	p.Source = commandSource
	if f.dryRun != "" {
		r, err := a.Plan(ctx, p)
		return r, inPool(name, err)
	}
	r, err := a.Apply(ctx, p)
	if err != nil || !f.wait {
		return r, inPool(name, err)
	}
	last := ""
	return r, inPool(name, a.Wait(ctx, p, func(now apply.Progress) {
		line := fmt.Sprintf("pool %s: %d of %d objects are ready", name, now.Ready, now.All)
		if now.NotReady != "" {
			line += "; " + now.NotReady
		}
		if line != last {
			fmt.Fprintln(messages, line)
		}
		last = line
	}))
}

// prunePools removes the pools that are no longer among the documents.
func (f *applyFlags) prunePools(ctx context.Context, messages io.Writer, a *apply.Applier, config *rest.Config,
	among []*schema.Pool,
) (all []apply.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if len(among) == 0 {
		return nil, errPruneAll
	}
	applied, err := a.AppliedDocuments(ctx, "", commandSource)
	if err != nil {
		return nil, err
	}
	c, err := status.Connect(config)
	if err != nil {
		return nil, err
	}
	for _, p := range applied {
		if slices.ContainsFunc(among, func(o *schema.Pool) bool {
			return o.Metadata.Name == p.Metadata.Name && o.NamespaceOr(f.render.Namespace) == p.Metadata.Namespace
		}) {
			continue
		}
		reason := "its deletionPolicy is Orphan"
		if p.Spec.DeletionPolicy == "Delete" {
			if reason, err = pools.InUse(ctx, c, p.Metadata.Namespace, p); err != nil {
				return all, err
			}
		}
		if reason != "" || f.dryRun != "" {
			fmt.Fprintf(messages, "pool %s is not among the documents, but stays: %s\n", p.Metadata.Name,
				cmp.Or(reason, "--dry-run"))
			continue
		}
		r, err := a.Remove(ctx, p.Metadata.Namespace, p.Metadata.Name)
		all = append(all, r)
		if err != nil {
			return all, inPool(p.Metadata.Name, err)
		}
	}
	return all, nil
}

// errPruneAll rejects --prune without documents.
var errPruneAll = errors.New("--prune without a document would remove all pools; name at least one")

// commandSource is the source in the inventories of pools applied by this command.
const commandSource = "command"

func inPool(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("pool %s: %w", name, err)
}

func (f *applyFlags) print(cmd *cobra.Command, all []apply.Result) error {
	if f.output != "table" {
		return printValue(cmd, f.output, all, func() {})
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "POOL\tOBJECT\tACTION\tREMARKS")
	for _, r := range all {
		counts := map[apply.Action]int{}
		for _, c := range r.Changes {
			counts[c.Action]++
			if c.Action != apply.Unchanged {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", r.Pool, c.Reference, c.Action,
					cmp.Or(c.Reason, differences(c.Fields)))
			}
		}
		if n := counts[apply.Unchanged]; n > 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\t\n", r.Pool, plural(n, "object"), apply.Unchanged)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if f.dryRun != "" {
		fmt.Fprintln(cmd.OutOrStdout(), "nothing was applied: --dry-run")
	}
	return nil
}

// maxShown is the length of the longest value that the table shows.
const maxShown = 40

// differences lists changed fields, with their values if these are short.
func differences(fields []plan.Difference) string {
	var all []string
	for _, d := range fields {
		before, after := fmt.Sprint(cmp.Or(d.Is, any("nothing"))), fmt.Sprint(cmp.Or(d.Becomes, any("nothing")))
		if max(len(before), len(after)) > maxShown || strings.ContainsAny(before+after, "\n\t") {
			all = append(all, d.Path)
			continue
		}
		all = append(all, fmt.Sprintf("%s: %s -> %s", d.Path, before, after))
	}
	return strings.Join(all, "; ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
