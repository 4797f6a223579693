package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

func newConvert() *cobra.Command {
	return &cobra.Command{
		Use:   "convert [PATH...]",
		Short: "Convert KadaluStorage documents and their StorageClasses to Atoll's",
		Long: `convert prints every pool as a StoragePool document, and every StorageClass of
the provisioners kadalu and gluster.org/glusterblock as a StorageClass of
csi.atoll.storage. Fields that have no equivalent are listed in warnings on
standard error.`,
		Example: "  atoll convert storage-config.yaml > pools/storage-pool-1.yaml",
		RunE: func(cmd *cobra.Command, paths []string) error {
			result, err := load(cmd, paths)
			if err != nil {
				return err
			}
			var converted []any
			for _, pool := range documentsOf(result) {
				converted = append(converted, pool)
			}
			for _, c := range result.Classes {
				if c.Converted != nil {
					converted = append(converted, c.Converted)
				}
			}
			for i, document := range converted {
				if i > 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "---")
				}
				out, err := yaml.Marshal(document)
				if err != nil {
					return fmt.Errorf("write converted document: %w", err)
				}
				if _, err := cmd.OutOrStdout().Write(out); err != nil {
					return fmt.Errorf("write converted document: %w", err)
				}
			}
			return nil
		},
	}
}
