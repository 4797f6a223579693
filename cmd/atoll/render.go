package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/loader"
)

// renderFlags are the flags of every command that renders.
func renderFlags(cmd *cobra.Command) *render.Options {
	o := &render.Options{}
	cmd.Flags().StringVarP(&o.Namespace, "namespace", "n", schema.DefaultNamespace,
		"namespace of documents without a namespace")
	cmd.Flags().StringVar(&o.ClusterDomain, "cluster-domain", "cluster.local", "DNS domain of the cluster")
	cmd.Flags().StringVar(&o.Images.Brick, "image-brick", "", "image of the containers prepare and agent")
	cmd.Flags().StringVar(&o.Images.Gluster, "image-gluster", "", "image of the containers glusterfsd and self-heal")
	return o
}

func newRender() *cobra.Command {
	var dir string
	var split bool
	cmd := &cobra.Command{
		Use:   "render [PATH...]",
		Short: "Render pool documents into Kubernetes objects",
		Long: `render prints the objects of every pool, with the same bytes on every run and machine.
With --output-dir it writes a file per pool, with --split a file per object.`,
		Example: "  atoll render pools/ | kubectl apply -f -\n  atoll render --output-dir rendered --split pools/",
	}
	options := renderFlags(cmd)
	cmd.Flags().StringVarP(&dir, "output-dir", "d", "", "write files into this directory")
	cmd.Flags().BoolVar(&split, "split", false, "write a file per object (needs --output-dir)")
	cmd.RunE = func(cmd *cobra.Command, paths []string) error {
		if split && dir == "" {
			return errors.New("--split writes files; name a directory with --output-dir")
		}
		result, err := load(cmd, paths)
		if err != nil {
			return err
		}
		files, err := renderFiles(cmd.ErrOrStderr(), result, *options, split)
		if err != nil {
			return err
		}
		if dir != "" {
			return writeFiles(dir, files)
		}
		for i, f := range files {
			if i > 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "---")
			}
			if _, err := cmd.OutOrStdout().Write(f.content); err != nil {
				return fmt.Errorf("write objects: %w", err)
			}
		}
		return nil
	}
	return cmd
}

// file is a file to write. Its name has no directory.
type file struct {
	name    string
	content []byte
}

// renderFiles renders every pool and the converted StorageClasses.
func renderFiles(messages io.Writer, r *loader.Result, o render.Options, split bool) ([]file, error) {
	var files []file
	add := func(name string, objects ...render.Object) error {
		content, err := render.YAML(objects)
		files = append(files, file{name, content})
		return err
	}
	progress := newProgress(messages, "rendered", len(r.Documents))
	defer progress.end()
	for _, p := range documentsOf(r) {
		objects, err := render.Render(p, o)
		if err != nil {
			return nil, err
		}
		namespace := p.NamespaceOr(o.Namespace)
		if !split {
			err = add(namespace+"-"+p.Metadata.Name+".yaml", objects...)
		}
		for i := 0; split && i < len(objects) && err == nil; i++ {
			err = add(fileName(namespace, objects[i]), objects[i])
		}
		if err != nil {
			return nil, err
		}
		progress.step()
	}
	for _, c := range r.Classes {
		if c.Converted == nil {
			continue
		}
		class := render.Class(c.Converted)
		if err := add(fileName("cluster", class), class); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func fileName(namespace string, o render.Object) string {
	kind := strings.ToLower(o.GetObjectKind().GroupVersionKind().Kind)
	return namespace + "-" + kind + "-" + o.GetName() + ".yaml"
}

// writeFiles writes files below dir, and never outside of it. Each file is replaced atomically.
func writeFiles(dir string, files []file) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create output directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open output directory: %w", err)
	}
	defer root.Close()
	for _, f := range files {
		pending := "." + f.name + ".new"
		if err := root.WriteFile(pending, f.content, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(dir, f.name), err)
		}
		if err := root.Rename(pending, f.name); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(dir, f.name), err)
		}
	}
	return nil
}
