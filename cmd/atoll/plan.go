package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/render/plan"
	"github.com/atoll-storage/atoll/schema"
)

func newPlan() *cobra.Command {
	var from, to, output string
	cmd := &cobra.Command{
		Use:   "plan OLD NEW | plan --from REVISION [--to REVISION] [PATH]",
		Short: "Show what a change to the pools would do, and whether it is dangerous",
		Long: `plan compares two files or directories of pools, or two git revisions of one path
(without --to: a revision with the working tree). It exits with 2 when a change is
dangerous: a brick removed, moved or reordered, a changed type, changed immutable
fields of a StorageClass.`,
		Example: "  atoll plan old/ new/\n  atoll plan --from origin/main pools/",
		Args:    cobra.MaximumNArgs(2),
	}
	options := renderFlags(cmd)
	cmd.Flags().StringVar(&from, "from", "", "git revision to compare from")
	cmd.Flags().StringVar(&to, "to", "", "git revision to compare to (default: the working tree)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text|json|yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		before, after, err := loadBoth(cmd, args, from, to)
		if err != nil {
			return err
		}
		p, err := plan.Compare(before, after, *options)
		if err != nil {
			return err
		}
		if err := printValue(cmd, output, p, func() { fmt.Fprint(cmd.OutOrStdout(), p.String()) }); err != nil {
			return err
		}
		if p.Dangerous() {
			return errDangerous
		}
		return nil
	}
	return cmd
}

// loadBoth loads the two sides to compare: two paths, or two revisions of one path.
func loadBoth(cmd *cobra.Command, args []string, from, to string) (before, after []*schema.Pool, err error) {
	if from == "" {
		if to != "" || len(args) != 2 {
			return nil, nil, errors.New("nothing to compare; name an old and a new path, or a revision with --from")
		}
		if before, err = loadPath(cmd, args[0]); err != nil {
			return nil, nil, err
		}
		after, err = loadPath(cmd, args[1])
		return before, after, err
	}
	path := "."
	if len(args) == 2 {
		return nil, nil, fmt.Errorf("unexpected path %q; --from compares two revisions of one path", args[1])
	}
	if len(args) == 1 {
		path = args[0]
	}
	if before, err = loadRevision(cmd, from, path); err != nil {
		return nil, nil, err
	}
	if to == "" {
		after, err = loadPath(cmd, path)
	} else {
		after, err = loadRevision(cmd, to, path)
	}
	return before, after, err
}

func loadPath(cmd *cobra.Command, path string) ([]*schema.Pool, error) {
	r, err := load(cmd, []string{path})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return documentsOf(r), nil
}

// loadRevision loads path from a git revision.
func loadRevision(cmd *cobra.Command, revision, path string) ([]*schema.Pool, error) {
	location, remove, err := checkout(cmd.Context(), revision, path)
	if err != nil {
		return nil, err
	}
	defer remove()
	if location == "" {
		return nil, nil // the path does not exist in that revision
	}
	r, err := loadFrom(cmd, []string{location}, func(file string) string {
		return revision + ":" + filepath.Join(path, strings.TrimPrefix(strings.TrimPrefix(file, location), "/"))
	})
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", path, revision, err)
	}
	return documentsOf(r), nil
}
