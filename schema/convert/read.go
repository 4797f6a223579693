package convert

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema/yamlnode"
)

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
func (k *converter) text(n *yaml.Node, path string) string {
	n = yamlnode.Resolve(n)
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

// boolean reads true and false, also in the words of YAML 1.1.
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

func (k *converter) number(n *yaml.Node, path string) int {
	text := k.text(n, path)
	i, err := strconv.Atoi(text)
	if err != nil {
		k.fail(path, "kind", fmt.Sprintf("%q is not a whole number", text), "a whole number")
	}
	return i
}
