package loader

import (
	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/convert"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// ClassDocument is a StorageClass found beside the pools.
type ClassDocument struct {
	Name        string
	Provisioner string
	Default     bool
	Source      schema.Position
	Scope       string
	// Converted is the class for Atoll's driver, nil unless the document names a
	// provisioner that Atoll replaces.
	Converted *schema.ConvertedClass

	places *place
}

// class adds a StorageClass document.
func (l *load) class(root *yaml.Node, from origin) {
	metadata := yamlnode.Field(root, "metadata")
	c := &ClassDocument{
		Name: yamlnode.Scalar(metadata, "name"), Provisioner: yamlnode.Scalar(root, "provisioner"),
		Scope: from.scope, places: from.placesOf(root),
	}
	c.Source = c.places.at("")
	c.Default = yamlnode.Scalar(yamlnode.Field(metadata, "annotations"), schema.AnnotationDefaultClass) == "true"
	l.result.Classes = append(l.result.Classes, c)
	if !convert.Converts(c.Provisioner) {
		return
	}
	converted, diagnostics := convert.StorageClass(root, c.places.at)
	c.Converted = converted
	for _, d := range diagnostics {
		l.report(finding{Diagnostic: d})
	}
}
