package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/render/krm"
)

func newFn() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "fn",
		Short: "Run as a KRM function: pools in, objects out",
		Long: `fn reads a ResourceList from standard input, replaces the pools in it by their rendered
objects, and writes the list to standard output. List it under transformers of a
kustomization, so that overlays patch the pool before it is rendered.`,
		Args: cobra.NoArgs,
	}
	options := renderFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := krm.Process(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), *options)
		if errors.Is(err, krm.ErrRefused) {
			return errFindings
		}
		return err
	}
	return cmd
}
