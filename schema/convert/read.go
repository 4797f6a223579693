package convert

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// reader reads the value of one field; path names the field in diagnostics.
type reader func(value *yaml.Node, path string)

// fieldReader reads the field with this name, in any of its spellings. Fields with
// legacy set are read, but the warning about an unknown field does not suggest them.
type fieldReader struct {
	name   string
	read   reader
	legacy bool
}

// mapping reads each field of a mapping and warns of unknown fields. shape is an example of
// the mapping for diagnostics.
func (k *converter) mapping(n *yaml.Node, path, what, shape string, fields []fieldReader) {
	n = yamlnode.Resolve(n)
	if n == nil || n.Kind != yaml.MappingNode {
		k.fail(path, "kadalu-shape", what+" is not a mapping", shape)
		return
	}
	for key, value := range yamlnode.Pairs(n) {
		at := path + "." + key.Value
		i := slices.IndexFunc(fields, func(f fieldReader) bool { return fold(f.name) == fold(key.Value) })
		if i < 0 {
			k.warn(at, "field-unknown", fmt.Sprintf("unknown field %q is ignored", key.Value), names(fields))
			continue
		}
		fields[i].read(value, at)
	}
}

func names(fields []fieldReader) string {
	var list []string
	for _, f := range fields {
		if !f.legacy {
			list = append(list, f.name)
		}
	}
	return strings.Join(list, ", ")
}

// items yields the items of a list, each with its path.
func items(n *yaml.Node, path string) iter.Seq2[string, *yaml.Node] {
	return func(yield func(path string, item *yaml.Node) bool) {
		for i, item := range n.Content {
			if !yield(fmt.Sprintf("%s[%d]", path, i), yamlnode.Resolve(item)) {
				return
			}
		}
	}
}

// fold makes the spellings of one field equal: Gluster_options, gluster-options
// and glusterOptions are one.
func fold(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

// textTo returns a reader that stores a scalar as it is written.
func (k *converter) textTo(to *string) reader {
	return func(value *yaml.Node, path string) { *to = k.text(value, path) }
}

// pathTo returns a reader that stores a path without trailing slashes, which Kadalu's
// users wrote.
func (k *converter) pathTo(to *string) reader {
	return func(value *yaml.Node, path string) {
		*to = k.text(value, path)
		if trimmed := strings.TrimRight(*to, "/"); trimmed != "" {
			*to = trimmed
		}
	}
}

func (k *converter) numberTo(to *int) reader {
	return func(value *yaml.Node, path string) {
		text := k.text(value, path)
		i, err := strconv.Atoi(text)
		if err != nil {
			k.fail(path, "kind", fmt.Sprintf("%q is not a whole number", text), "a whole number")
		}
		*to = i
	}
}

func (k *converter) booleanTo(to *bool) reader {
	return func(value *yaml.Node, path string) { *to = k.boolean(value, path) }
}

// text returns a scalar as it is written.
func (k *converter) text(n *yaml.Node, path string) string {
	n = yamlnode.Resolve(n)
	if n == nil {
		return ""
	}
	if n.Kind != yaml.ScalarNode {
		k.fail(path, "kind", "the value is not a scalar", "a string")
		return ""
	}
	if n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// texts returns a mapping of strings, nil if n is not a mapping.
func (k *converter) texts(n *yaml.Node, path string) map[string]string {
	n = yamlnode.Resolve(n)
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	m := map[string]string{}
	for key, value := range yamlnode.Pairs(n) {
		m[key.Value] = k.text(value, path+"["+strconv.Quote(key.Value)+"]")
	}
	return m
}

// boolean reads true and false, also as YAML 1.1 spells them.
func (k *converter) boolean(n *yaml.Node, path string) bool {
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
