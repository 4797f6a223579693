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

// maxSplitBrains is how many entries of a brick are looked at.
const maxSplitBrains = 1000

func (f *healFlags) splitBrainCommands() []*cobra.Command {
	list := &cobra.Command{
		Use: "split-brain POOL", Short: "List files about which bricks hold each other to be wrong", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.listSplitBrains(cmd, args[0]) },
	}
	list.Flags().StringVarP(&f.output, "output", "o", "table", "table|json|yaml")
	var keep string
	var all bool
	resolve := &cobra.Command{
		Use:   "resolve POOL [PATH|ID]...",
		Short: "Say which brick is right about files that nobody can read",
		Long: `resolve has one brick be right about a file, and heals the others from it: what they had
of it is lost. Which one, --keep says: the one that was modified last, the bigger one, or
the brick of an index, as 'atoll heal split-brain' lists them. To have it decided by itself
in future, set cluster.favorite-child-policy in the options of the pool's document.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 1) {
				return errors.New("name files, or --all")
			}
			return f.resolve(cmd, args[0], args[1:], agent.Policy(keep))
		},
	}
	resolve.Flags().StringVar(&keep, "keep", "", "latest|bigger|brick=INDEX")
	resolve.Flags().BoolVar(&all, "all", false, "all files that 'atoll heal split-brain' lists")
	_ = resolve.MarkFlagRequired("keep") // the flag exists
	return []*cobra.Command{list, resolve}
}

// splitBrains asks all bricks, and compares those of each set.
func (f *healFlags) splitBrains(ctx context.Context, pool string, keys agent.Keys) ([]agent.Split, catalog.Pool, error) {
	var client agent.Client
	var mu sync.Mutex
	listed := map[int]agent.Pending{}
	p, errs, err := f.eachBrick(ctx, pool, func(ctx context.Context, p catalog.Pool, i int, at string) error {
		pending, err := client.Pending(ctx, at, agent.Audience(p.Namespace, p.Pool, strconv.Itoa(i)), agent.PendingRequest{Limit: maxSplitBrains}, keys)
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

// clientName is the name of a brick in its pool's graphs.
func clientName(p catalog.Pool, index int) string { return p.Pool + "-client-" + strconv.Itoa(index) }

// byBrick says of which bricks errors are.
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
		fmt.Fprintf(cmd.OutOrStdout(), "the bricks of pool %s agree about who is right\n", pool)
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FILE\tABOUT\tBRICK\tBYTES\tMODIFIED")
	for _, s := range all {
		about := strings.Trim(fmt.Sprint(s.Counters), "[]")
		for _, brick := range slices.Sorted(maps.Keys(s.Copies)) {
			e := s.Copies[brick]
			_, index, _ := strings.Cut(brick, "-client-")
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\n", cmp.Or(s.Path, s.ID), about, index, e.Size, e.Modified.UTC().Format(time.RFC3339))
		}
	}
	return w.Flush()
}

// resolve has the bricks that are wrong hold nothing against the one that is right, and
// all of them healed. All choices are made before anything is changed.
func (f *healFlags) resolve(cmd *cobra.Command, pool string, names []string, policy agent.Policy) error {
	keys, err := agent.ReadKeys(f.keys)
	if err != nil {
		return err
	}
	all, p, err := f.splitBrains(cmd.Context(), pool, keys)
	if err != nil {
		return err
	}
	chosen, err := chooseSources(all, names, policy)
	if err != nil {
		return err
	}
	var client agent.Client
	_, errs, err := f.eachBrick(cmd.Context(), pool, func(ctx context.Context, p catalog.Pool, i int, at string) error {
		own := clientName(p, i)
		for id, right := range chosen {
			s := all[slices.IndexFunc(all, func(s agent.Split) bool { return s.ID == id })]
			if len(s.Copies[own].Blames[right]) == 0 {
				continue
			}
			q := agent.ClearPendingRequest{ID: id, Brick: right, Counters: s.Counters}
			if err := client.ClearPending(ctx, at, agent.Audience(p.Namespace, p.Pool, strconv.Itoa(i)), q, keys); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, byBrick(errs)); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d files of pool %s have a brick that is right\n", len(chosen), p.Pool)
	return f.heal(cmd, pool, false)
}

// chooseSources gives the brick that is right for each file, by ID.
func chooseSources(all []agent.Split, names []string, policy agent.Policy) (map[string]string, error) {
	chosen := map[string]string{}
	for _, s := range all {
		if len(names) > 0 && !slices.Contains(names, s.Path) && !slices.Contains(names, s.ID) {
			continue
		}
		brick, err := s.Keep(policy)
		if err != nil {
			return nil, err
		}
		chosen[s.ID] = brick
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s agent.Split) bool { return s.Path == name || s.ID == name }) {
			return nil, fmt.Errorf("bricks agree about %s, or it is not there; 'atoll heal split-brain' lists what they do not agree about", name)
		}
	}
	return chosen, nil
}
