package main

import (
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
		Short: "Tell what a change to the pools would do, and whether it is dangerous",
		Long: `plan compares two files or folders of pools, or two git revisions of one path
(without --to: a revision with the files as they are). It exits with 2 when a
change is dangerous: a brick removed, moved or reordered, a type changed, fields
of a StorageClass that cannot change.`,
		Example: "  atoll plan old/ new/\n  atoll plan --from origin/main pools/",
		Args:    cobra.MaximumNArgs(2),
	}
	options := renderFlags(cmd)
	cmd.Flags().StringVar(&from, "from", "", "git revision to compare from")
	cmd.Flags().StringVar(&to, "to", "", "git revision to compare to (default: the files as they are)")
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

// loadBoth loads what the arguments name: two paths, or two revisions of one.
func loadBoth(cmd *cobra.Command, args []string, from, to string) (before, after []*schema.Pool, err error) {
	if from == "" {
		if to != "" || len(args) != 2 {
			return nil, nil, fmt.Errorf("name an old and a new path, or a revision with --from")
		}
		if before, err = loadPath(cmd, args[0]); err != nil {
			return nil, nil, err
		}
		after, err = loadPath(cmd, args[1])
		return before, after, err
	}
	path := "."
	if len(args) == 2 {
		return nil, nil, fmt.Errorf("--from compares one path; %q is one too many", args[1])
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

// loadRevision loads path as it was in a git revision.
func loadRevision(cmd *cobra.Command, revision, path string) ([]*schema.Pool, error) {
	folder, remove, err := checkout(cmd.Context(), revision, path)
	if err != nil {
		return nil, err
	}
	defer remove()
	if folder == "" {
		return nil, nil // the path did not exist then
	}
	r, err := loadFrom(cmd, []string{folder}, func(file string) string {
		return revision + ":" + filepath.Join(path, strings.TrimPrefix(strings.TrimPrefix(file, folder), "/"))
	})
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", path, revision, err)
	}
	return documentsOf(r), nil
}
