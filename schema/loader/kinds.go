package loader

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/definition"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// isPool reports whether a document is meant to be a pool. It also accepts near misses, so
// that a misspelled kind or a missing apiVersion is reported, not skipped.
func isPool(version, kind string, root *yaml.Node) bool {
	group, _, _ := strings.Cut(schema.APIVersion, "/")
	if strings.HasPrefix(version, group) || kind == schema.Kind {
		return true
	}
	spec := yamlnode.Field(root, "spec")
	if kind != "" || version != "" || spec == nil {
		return false
	}
	return slices.Contains(definition.Pool().Values, yamlnode.Scalar(spec, "type")) &&
		(yamlnode.Field(spec, "bricks") != nil || yamlnode.Field(spec, "external") != nil)
}

func isKadalu(version, kind string) bool {
	group, _, _ := strings.Cut(schema.KadaluAPIVersion, "/")
	return strings.HasPrefix(version, group) || kind == schema.KadaluKind
}

// isList reports whether a document is a list of others, as kubectl prints them.
func isList(version, kind string) bool {
	switch kind {
	case "List":
		return version == "v1"
	case schema.Kind + "List", schema.KadaluKind + "List", "StorageClassList":
		return true
	}
	return false
}
