package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/definition"
)

func newSchema() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the schema of a pool document: CUE, JSON schema for editors, or custom resource definition",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := []byte(schema.PoolCUE)
			switch output {
			case "cue":
			case "json":
				var err error
				if text, err = definition.JSONSchema(); err != nil {
					return err
				}
			case "crd":
				var err error
				if text, err = definition.CRD(); err != nil {
					return err
				}
			default:
				return fmt.Errorf("unknown output format %q; allowed are cue, json, crd", output)
			}
			_, err := cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "cue", "cue|json|crd")
	return cmd
}
