package loader

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// pathFields are the fields of a kustomization whose entries are files or directories, or
// addresses that kustomize would fetch from the network.
var pathFields = []string{
	"resources", "bases", "components", "crds", "configurations",
	"generators", "transformers", "validators", "patchesStrategicMerge",
}

// refuseRemote reports an error for everything in a kustomization, and those that it
// includes, that is not a local file: loading never uses the network and never runs git.
// It returns whether everything is local.
func (l *load) refuseRemote(dir string, seen map[string]bool) bool {
	if seen[dir] {
		return true // kustomize itself reports the cycle
	}
	seen[dir] = true
	file := kustomizationFile(dir)
	if file == "" {
		return true // kustomize itself reports the missing file
	}
	data, err := readFile(file)
	if err != nil {
		return true
	}
	root, err := parseYAML(chunk{text: data})
	if err != nil {
		l.syntaxError(file, chunk{text: data}, err)
		return false
	}
	if root == nil || root.Kind != yaml.MappingNode {
		return true
	}
	local := true
	for key, value := range yamlnode.Pairs(root) {
		if value == nil {
			continue
		}
		if slices.Contains(pathFields, key.Value) {
			local = l.entries(dir, file, value, seen) && local
		} else {
			local = l.addresses(file, value) && local
		}
	}
	return local
}

// entries checks that each entry is a file, a directory or inline text.
func (l *load) entries(dir, file string, list *yaml.Node, seen map[string]bool) bool {
	local := true
	for _, e := range list.Content {
		if e.Kind != yaml.ScalarNode || strings.Contains(e.Value, "\n") {
			continue
		}
		p := filepath.Join(dir, e.Value)
		info, err := os.Stat(p)
		switch {
		case err != nil && isRemote(e.Value):
			l.remote(file, e)
			local = false
		case err != nil:
			l.fileError(schema.Position{File: file, Line: e.Line, Column: e.Column}, "kustomize",
				"no such file or directory: "+e.Value, "a path relative to the kustomization")
			local = false
		case info.IsDir():
			local = l.refuseRemote(p, seen) && local
		}
	}
	return local
}

// addresses checks that no single-line value in other fields is a URL: kustomize accepts
// URLs for files of generators and for patches.
func (l *load) addresses(file string, n *yaml.Node) bool {
	n = yamlnode.Resolve(n)
	if n == nil {
		return true
	}
	local := true
	if n.Kind == yaml.ScalarNode && (strings.HasPrefix(n.Value, "http://") || strings.HasPrefix(n.Value, "https://")) &&
		!strings.Contains(n.Value, "\n") {
		l.remote(file, n)
		return false
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && n.Content[i&^1].Value == "literals" {
			continue // data, not paths
		}
		local = l.addresses(file, c) && local
	}
	return local
}

func (l *load) remote(file string, n *yaml.Node) {
	l.fileError(schema.Position{File: file, Line: n.Line, Column: n.Column}, "kustomize-remote",
		n.Value+" is not a local path, and loading never uses the network",
		"build it with kustomize and pipe the result to 'atoll vet -'")
}

// isRemote reports whether an entry is an address. Like kustomize, it looks for a scheme, a
// user, a host before the first slash, or a query.
func isRemote(s string) bool {
	host, _, _ := strings.Cut(s, "/")
	return strings.Contains(s, "://") || strings.Contains(s, "?ref=") || strings.Contains(s, "::") ||
		strings.HasPrefix(s, "git@") || strings.Contains(strings.TrimLeft(host, "."), ".") && strings.Contains(s, "/")
}
