// Package krm is the renderer as a KRM function: a kustomization lists it under
// transformers, which run after its patches. The function replaces the pools of the build
// by the objects rendered from them.
//
// The protocol is kustomize's "Functions Specification": the function reads a ResourceList
// from standard input and writes it to standard output, with the items transformed and with
// a result for each diagnostic.
package krm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/fn/framework"
	"sigs.k8s.io/kustomize/kyaml/kio"
	"sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/convert"
	"github.com/atoll-storage/atoll/schema/loader"
)

// ErrRefused is returned if pools of the list have errors; the results describe them.
var ErrRefused = errors.New("the pools have errors")

// Process reads a ResourceList, renders the pools in it and writes the list. If a pool has
// errors, the items are unchanged, the list has results of severity error, and Process
// returns ErrRefused.
func Process(ctx context.Context, in io.Reader, out io.Writer, o render.Options) error {
	processor := framework.ResourceListProcessorFunc(func(list *framework.ResourceList) error {
		return transform(ctx, list, o)
	})
	return framework.Execute(processor, &kio.ByteReadWriter{Reader: in, Writer: out})
}

func transform(ctx context.Context, list *framework.ResourceList, o render.Options) error {
	var documents strings.Builder
	var rest []*yaml.RNode
	for _, item := range list.Items {
		if !isInput(item) {
			rest = append(rest, item)
			continue
		}
		text, err := withoutBookkeeping(item)
		if err != nil {
			return err
		}
		documents.WriteString("---\n" + text)
	}
	if documents.Len() == 0 {
		return nil
	}
	loaded, err := loader.Load(ctx, loader.Options{Stdin: strings.NewReader(documents.String())}, "-")
	if err != nil {
		return err
	}
	refused := false
	for _, d := range loaded.Diagnostics {
		refused = refused || d.Severity == schema.SeverityError
		list.Results = append(list.Results, result(d))
	}
	if refused {
		return ErrRefused
	}
	rendered, err := renderAll(loaded, o)
	if err != nil {
		return err
	}
	list.Items = append(rest, rendered...)
	return nil
}

// isInput reports whether the function replaces an item: a pool, or a StorageClass that
// converts.
func isInput(item *yaml.RNode) bool {
	version, kind := item.GetApiVersion(), item.GetKind()
	return version == schema.APIVersion && kind == schema.Kind ||
		version == schema.KadaluAPIVersion && kind == schema.KadaluKind ||
		kind == "StorageClass" && convert.Converts(field(item, "provisioner"))
}

// field returns a top-level string field of an item, "" if it has none.
func field(item *yaml.RNode, name string) string {
	text, err := item.GetString(name)
	if err != nil {
		return ""
	}
	return text
}

// withoutBookkeeping returns the document without the annotations that kustomize adds during
// a build.
func withoutBookkeeping(item *yaml.RNode) (string, error) {
	c := item.Copy()
	annotations := c.GetAnnotations()
	for name := range annotations {
		if strings.HasPrefix(name, "internal.config.kubernetes.io/") ||
			strings.HasPrefix(name, "config.kubernetes.io/") {
			delete(annotations, name)
		}
	}
	if err := c.SetAnnotations(annotations); err != nil {
		return "", fmt.Errorf("read pool %s: %w", item.GetName(), err)
	}
	return c.String()
}

func result(d schema.Diagnostic) *framework.Result {
	return &framework.Result{
		Message:  d.Text(),
		Severity: framework.Severity(d.Severity),
		ResourceRef: &yaml.ResourceIdentifier{
			TypeMeta: yaml.TypeMeta{APIVersion: schema.APIVersion, Kind: schema.Kind},
			NameMeta: yaml.NameMeta{Name: d.Pool},
		},
		Field: &framework.Field{Path: d.Path},
		Tags:  map[string]string{"code": d.Code},
	}
}

func renderAll(loaded *loader.Result, o render.Options) ([]*yaml.RNode, error) {
	var all []render.Object
	for _, d := range loaded.Documents {
		objects, err := render.Render(d.Pool, o)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	for _, c := range loaded.Classes {
		if c.Converted != nil {
			all = append(all, render.Class(c.Converted))
		}
	}
	text, err := render.YAML(all)
	if err != nil {
		return nil, err
	}
	nodes, err := (&kio.ByteReader{Reader: bytes.NewReader(text), OmitReaderAnnotations: true}).Read()
	if err != nil {
		return nil, fmt.Errorf("read rendered objects: %w", err)
	}
	return nodes, nil
}
