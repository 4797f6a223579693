package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/agent"
)

// maxSplitBrains limits the pending entries that are read from a brick.
const maxSplitBrains = 1000

func (f *healFlags) splitBrainCommands() []*cobra.Command {
	list := &cobra.Command{
		Use: "split-brain POOL", Short: "List the files on which bricks blame each other", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.listSplitBrains(cmd, args[0]) },
	}
	list.Flags().StringVarP(&f.output, "output", "o", "table", "table|json|yaml")
	var keep string
	var all bool
	resolve := &cobra.Command{
		Use:   "resolve POOL [PATH|ID]...",
		Short: "Choose the brick whose copy of files in split-brain is kept",
		Long: `resolve chooses one brick as the source of a file and heals the other bricks from it:
their copies of the file are lost. --keep selects the source: the copy that was modified
last, the bigger copy, or the brick with an index that 'atoll heal split-brain' lists. To
resolve future split-brains automatically, set cluster.favorite-child-policy in the options
of the pool's document.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 1) {
				return errors.New("name files, or use --all")
			}
			return f.resolve(cmd, args[0], args[1:], agent.Policy(keep))
		},
	}
	resolve.Flags().StringVar(&keep, "keep", "", "latest|bigger|brick=INDEX")
	resolve.Flags().BoolVar(&all, "all", false, "resolve all files that 'atoll heal split-brain' lists")
	_ = resolve.MarkFlagRequired("keep") // fails only for an unknown flag
	return []*cobra.Command{list, resolve}
}

// splitBrains queries all bricks and compares the bricks of each set.
func (f *healFlags) splitBrains(
	ctx context.Context, pool string, keys agent.Keys,
) ([]agent.Split, catalog.Pool, error) {
	var client agent.Client
	var mu sync.Mutex
	listed := map[int]agent.Pending{}
	p, errs, err := f.eachBrick(ctx, pool, func(ctx context.Context, p catalog.Pool, i int, at string) error {
		audience := agent.Audience(p.Namespace, p.Pool, strconv.Itoa(i))
		pending, err := client.Pending(ctx, at, audience, agent.PendingRequest{Limit: maxSplitBrains}, keys)
		mu.Lock()
		defer mu.Unlock()
		listed[i] = pending
		return err
	})
	if err = errors.Join(err, byBrick(errs)); err != nil {
		return nil, p, err
	}
	var all []agent.Split
	for first := 0; first < len(p.Bricks); first += p.SetSize {
		set := map[string]agent.Pending{}
		for i := first; i < first+p.SetSize; i++ {
			set[clientName(p, i)] = listed[i]
		}
		all = append(all, agent.Splits(set)...)
	}
	return all, p, nil
}

// clientName is the name of the protocol/client xlator of a brick in the graphs of its pool.
func clientName(p catalog.Pool, index int) string { return p.Pool + "-client-" + strconv.Itoa(index) }

// byBrick joins errors, each with the index of its brick.
func byBrick(errs []error) error {
	var all []error
	for i, err := range errs {
		if err != nil {
			all = append(all, fmt.Errorf("brick %d: %w", i, err))
		}
	}
	return errors.Join(all...)
}

func (f *healFlags) listSplitBrains(cmd *cobra.Command, pool string) error {
	keys, err := agent.ReadKeys(f.keys)
	if err != nil {
		return err
	}
	all, _, err := f.splitBrains(cmd.Context(), pool, keys)
	if err != nil {
		return err
	}
	if f.output != "table" {
		return printValue(cmd, f.output, all, func() {})
	}
	if len(all) == 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "pool %s has no files in split-brain\n", pool)
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tABOUT\tBRICK\tBYTES\tMODIFIED")
	for _, s := range all {
		about := strings.Trim(fmt.Sprint(s.Counters), "[]")
		for _, brick := range slices.Sorted(maps.Keys(s.Copies)) {
			e := s.Copies[brick]
			_, index, _ := strings.Cut(brick, "-client-")
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", cmp.Or(s.Path, s.ID), about, index, e.Size,
				e.Modified.UTC().Format(time.RFC3339))
		}
	}
	return w.Flush()
}

// resolve clears the pending counters that other bricks have against the source of each file, and
// starts a heal. It chooses the sources of all files before it changes anything.
func (f *healFlags) resolve(cmd *cobra.Command, pool string, names []string, policy agent.Policy) error {
	keys, err := agent.ReadKeys(f.keys)
	if err != nil {
		return err
	}
	all, p, err := f.splitBrains(cmd.Context(), pool, keys)
	if err != nil {
		return err
	}
	sources, err := chooseSources(all, names, policy)
	if err != nil {
		return err
	}
	var client agent.Client
	_, errs, err := f.eachBrick(cmd.Context(), pool, func(ctx context.Context, p catalog.Pool, i int, at string) error {
		name := clientName(p, i)
		for id, source := range sources {
			s := all[slices.IndexFunc(all, func(s agent.Split) bool { return s.ID == id })]
			if len(s.Copies[name].Blames[source]) == 0 {
				continue
			}
			q := agent.ClearPendingRequest{ID: id, Brick: source, Counters: s.Counters}
			audience := agent.Audience(p.Namespace, p.Pool, strconv.Itoa(i))
			if err := client.ClearPending(ctx, at, audience, q, keys); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, byBrick(errs)); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "chose the source of %d files of pool %s\n", len(sources), p.Pool)
	return f.heal(cmd, pool, false)
}

// chooseSources returns the brick to heal from for each file, by file ID.
func chooseSources(all []agent.Split, names []string, policy agent.Policy) (map[string]string, error) {
	sources := map[string]string{}
	for _, s := range all {
		if len(names) > 0 && !slices.Contains(names, s.Path) && !slices.Contains(names, s.ID) {
			continue
		}
		brick, err := s.Keep(policy)
		if err != nil {
			return nil, err
		}
		sources[s.ID] = brick
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s agent.Split) bool { return s.Path == name || s.ID == name }) {
			return nil, fmt.Errorf("%s is not in split-brain, or does not exist; "+
				"'atoll heal split-brain' lists the files in split-brain", name)
		}
	}
	return sources, nil
}
