package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build identifies the build of the program.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := build{"(devel)", "unknown", runtime.Version()}
			if info, ok := debug.ReadBuildInfo(); ok {
				b.Version = info.Main.Version
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						b.Commit = s.Value
					}
				}
			}
			return printValue(cmd, output, b, func() {
				fmt.Fprintf(cmd.OutOrStdout(), "atoll %s (commit %s, %s)\n", b.Version, b.Commit, b.Go)
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text|json|yaml")
	return cmd
}
