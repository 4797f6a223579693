package schema

import (
	"fmt"
	"iter"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// resolve follows a document node to its content and an alias to its anchor.
func resolve(n *yaml.Node) *yaml.Node {
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

// pairs yields the keys and values of a mapping in document order.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], resolve(n.Content[i+1])) {
				return
			}
		}
	}
}

// field gives the value of a mapping's key, nil where there is none.
func field(n *yaml.Node, name string) *yaml.Node {
	if n = resolve(n); n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for key, value := range pairs(n) {
		if key.Value == name {
			return value
		}
	}
	return nil
}

// fold makes the spellings of one field equal: Gluster_options, gluster-options
// and glusterOptions are one.
func fold(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

// trimSlash takes the slashes from the end of a path; Kadalu's users wrote them.
func trimSlash(path string) string {
	if trimmed := strings.TrimRight(path, "/"); trimmed != "" {
		return trimmed
	}
	return path
}

// text gives a scalar as it is written.
func (k *kadalu) text(n *yaml.Node, path string) string {
	n = resolve(n)
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		k.fail(path, "kind", "this is not a plain value", "a string")
		return ""
	}
	if n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

func (k *kadalu) texts(n *yaml.Node, path string) map[string]string {
	n = resolve(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	m := map[string]string{}
	for key, value := range pairs(n) {
		m[key.Value] = k.text(value, path+"["+strconv.Quote(key.Value)+"]")
	}
	return m
}

// boolean reads true and false, also in the words of YAML 1.1.
func (k *kadalu) boolean(n *yaml.Node, path string) bool {
	switch text := k.text(n, path); strings.ToLower(text) {
	case "true", "yes", "on":
		return true
	case "false", "no", "off", "":
		return false
	default:
		k.fail(path, "kind", fmt.Sprintf("%q is neither true nor false", text), "true or false")
		return false
	}
}

func (k *kadalu) number(n *yaml.Node, path string) int {
	text := k.text(n, path)
	i, err := strconv.Atoi(text)
	if err != nil {
		k.fail(path, "kind", fmt.Sprintf("%q is not a whole number", text), "a whole number")
	}
	return i
}
