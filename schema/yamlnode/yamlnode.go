// Package yamlnode walks the nodes of a YAML document, following aliases.
package yamlnode

import (
	"iter"

	"go.yaml.in/yaml/v3"
)

// Resolve follows a document node to its content and an alias to its anchor.
func Resolve(n *yaml.Node) *yaml.Node {
	for n != nil {
		switch {
		case n.Kind == yaml.DocumentNode && len(n.Content) == 1:
			n = n.Content[0]
		case n.Kind == yaml.AliasNode:
			n = n.Alias
		default:
			return n
		}
	}
	return nil
}

// Pairs yields the keys and values of a mapping in document order.
func Pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], Resolve(n.Content[i+1])) {
				return
			}
		}
	}
}

// Field returns the value of a mapping's key, nil if the mapping has no such key.
func Field(n *yaml.Node, name string) *yaml.Node {
	if n = Resolve(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for key, value := range Pairs(n) {
		if key.Value == name {
			return value
		}
	}
	return nil
}

// Scalar returns the text of a mapping's scalar field, "" if it has none.
func Scalar(n *yaml.Node, name string) string {
	if v := Field(n, name); v != nil && v.Kind == yaml.ScalarNode {
		return v.Value
	}
	return ""
}
