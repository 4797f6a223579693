package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/schema"
)

func newSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the definition of a pool document, in CUE",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), schema.PoolCUE)
			return err
		},
	}
}
