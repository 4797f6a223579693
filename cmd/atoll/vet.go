package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/schema/report"
)

func newVet() *cobra.Command {
	var output string
	var strict bool
	cmd := &cobra.Command{
		Use:   "vet [PATH...]",
		Short: "Check pool documents and report all errors",
		Long: `vet reads all documents and reports all errors at once, each with file, line and
column. It exits with 1 if there are errors (with --strict, also for warnings).`,
		Example: "  atoll vet pools/\n  kustomize build overlays/prod | atoll vet -\n  atoll vet --output github .",
		RunE: func(cmd *cobra.Command, paths []string) error {
			if !slices.Contains(report.Formats, output) {
				return fmt.Errorf("unknown output format %q; allowed are %s", output,
					strings.Join(report.Formats, ", "))
			}
			if len(paths) == 0 {
				paths = []string{"."}
			}
			result, err := loader.Load(cmd.Context(), loader.Options{Stdin: cmd.InOrStdin()}, paths...)
			if err != nil {
				return err
			}
			summary := report.Summarize(len(result.Documents), result.Diagnostics)
			if err := report.Write(cmd.OutOrStdout(), output, summary); err != nil {
				return err
			}
			if summary.Errors > 0 || strict && summary.Warnings > 0 {
				return errFindings
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", strings.Join(report.Formats, "|"))
	cmd.Flags().BoolVar(&strict, "strict", false, "exit with 1 for warnings too")
	return cmd
}
