package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/render/explain"
)

func newExplain() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "explain [PATH...]",
		Short: "Describe what a pool becomes: sets, fault tolerance, usable capacity",
		RunE: func(cmd *cobra.Command, paths []string) error {
			result, err := load(cmd, paths)
			if err != nil {
				return err
			}
			all := make([]explain.Explanation, 0, len(result.Documents))
			for _, p := range documentsOf(result) {
				all = append(all, explain.Explain(p))
			}
			return printValue(cmd, output, all, func() {
				for i, e := range all {
					if i > 0 {
						fmt.Fprintln(cmd.OutOrStdout())
					}
					fmt.Fprint(cmd.OutOrStdout(), e.String())
				}
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text|json|yaml")
	return cmd
}

// printValue prints v as JSON or YAML, or calls text to print it as text.
func printValue(cmd *cobra.Command, format string, v any, text func()) error {
	switch format {
	case "text":
		text()
		return nil
	case "json":
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		return e.Encode(v)
	case "yaml":
		out, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(out)
		return err
	}
	return fmt.Errorf("unknown output format %q; allowed are text, json, yaml", format)
}
