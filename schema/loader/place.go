package loader

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// place finds the lines of a document's fields.
type place struct {
	file      string
	root      *yaml.Node               // nil if only the file is known
	translate func(path string) string // from paths of the pool to those of the document; nil if they are the same
}

// at returns the position of a path, or of its nearest parent that exists.
func (p *place) at(path string) schema.Position {
	n := yamlnode.Resolve(p.root)
	if n == nil {
		return schema.Position{File: p.file}
	}
	if p.translate != nil {
		path = p.translate(path)
	}
	at := n
	for path != "" && n != nil {
		var step string
		step, path = nextStep(path)
		n = child(n, step)
		if n != nil && n.Line > 0 {
			at = n
		}
	}
	return schema.Position{File: p.file, Line: at.Line, Column: at.Column}
}

// nextStep splits off the first step of a path: a name, a quoted name in brackets, or an
// index, which keeps its opening bracket.
func nextStep(path string) (step, rest string) {
	path = strings.TrimPrefix(path, ".")
	if strings.HasPrefix(path, `["`) {
		if quoted, err := strconv.QuotedPrefix(path[1:]); err == nil {
			name, _ := strconv.Unquote(quoted)
			return name, strings.TrimPrefix(path[1+len(quoted):], "]")
		}
	}
	if strings.HasPrefix(path, "[") {
		index, rest, _ := strings.Cut(path, "]")
		return index, rest
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, ""
	}
	return path[:end], path[end:]
}

func child(n *yaml.Node, step string) *yaml.Node {
	if index, found := strings.CutPrefix(step, "["); found {
		i, err := strconv.Atoi(index)
		if err != nil || n.Kind != yaml.SequenceNode || i < 0 || i >= len(n.Content) {
			return nil
		}
		return yamlnode.Resolve(n.Content[i])
	}
	return yamlnode.Field(n, step)
}
