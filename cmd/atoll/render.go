package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
)

// renderFlags are the flags of every command that renders.
func renderFlags(cmd *cobra.Command) *render.Options {
	o := &render.Options{}
	cmd.Flags().StringVarP(&o.Namespace, "namespace", "n", schema.DefaultNamespace, "namespace of documents that name none")
	cmd.Flags().StringVar(&o.ClusterDomain, "cluster-domain", "cluster.local", "DNS domain of the cluster")
	cmd.Flags().StringVar(&o.Images.Brick, "image-brick", "", "image of prepare and agent")
	cmd.Flags().StringVar(&o.Images.Gluster, "image-gluster", "", "image of glusterfsd and self-heal")
	return o
}

func newRender() *cobra.Command {
	var folder string
	var split bool
	cmd := &cobra.Command{
		Use:   "render [PATH...]",
		Short: "Turn pool documents into Kubernetes objects",
		Long: `render prints the objects of every pool, the same bytes on every run and machine.
With --output-dir it writes one file a pool, with --split one file an object.`,
		Example: "  atoll render pools/ | kubectl apply -f -\n  atoll render --output-dir rendered --split pools/",
	}
	options := renderFlags(cmd)
	cmd.Flags().StringVarP(&folder, "output-dir", "d", "", "write files into this folder")
	cmd.Flags().BoolVar(&split, "split", false, "one file an object (needs --output-dir)")
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		if split && folder == "" {
			return fmt.Errorf("--split writes files: name a folder with --output-dir")
		}
		result, err := load(cmd, paths)
		if err != nil {
			return err
		}
		files, err := renderFiles(pools(result), *options, split)
		if err != nil {
			return err
		}
		if folder != "" {
			return writeFiles(folder, files)
		}
		for i, f := range files {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "---")
			}
			if _, err := cmd.OutOrStdout().Write(f.content); err != nil {
				return fmt.Errorf("writing the objects: %w", err)
			}
		}
		return nil
	}
	return cmd
}

// file is one file to write; name has no folder in it.
type file struct {
	name    string
	content []byte
}

func renderFiles(pools []*schema.Pool, o render.Options, split bool) ([]file, error) {
	var files []file
	for _, p := range pools {
		objects, err := render.Render(p, o)
		if err != nil {
			return nil, err
		}
		namespace := p.Metadata.Namespace
		if namespace == "" {
			namespace = o.Namespace
		}
		groups := map[string][]render.Object{}
		var names []string
		for _, object := range objects {
			name := namespace + "-" + p.Metadata.Name + ".yaml"
			if split {
				kind := strings.ToLower(object.GetObjectKind().GroupVersionKind().Kind)
				name = namespace + "-" + kind + "-" + object.GetName() + ".yaml"
			}
			if groups[name] == nil {
				names = append(names, name)
			}
			groups[name] = append(groups[name], object)
		}
		for _, name := range names {
			content, err := render.YAML(groups[name])
			if err != nil {
				return nil, err
			}
			files = append(files, file{name, content})
		}
	}
	return files, nil
}

// writeFiles writes into folder and never outside of it; a file is replaced
// whole or not at all.
func writeFiles(folder string, files []file) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("making the output folder: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return fmt.Errorf("opening the output folder: %w", err)
	}
	defer root.Close()
	for _, f := range files {
		pending := "." + f.name + ".new"
		if err := root.WriteFile(pending, f.content, 0o644); err != nil {
			return fmt.Errorf("writing %s: %w", filepath.Join(folder, f.name), err)
		}
		if err := root.Rename(pending, f.name); err != nil {
			return fmt.Errorf("writing %s: %w", filepath.Join(folder, f.name), err)
		}
	}
	return nil
}
