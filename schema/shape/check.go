package shape

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// Problem is one thing wrong with a document.
type Problem struct {
	Node    *yaml.Node // the value at fault; for a missing field, the mapping that lacks it
	Path    string     // such as spec.bricks[2].node
	Code    string     // field-unknown, field-missing, field-twice, field-type, kind, value, union
	Message string
	Allowed string
}

// Check checks a document against the definition and returns all problems. The document
// must have no aliases and no merge keys.
func (d *Definition) Check(doc *yaml.Node) []Problem {
	c := checker{definition: d}
	shape := d.Merged
	if v, known := d.Variant[d.valueIn(doc)]; known {
		shape, c.variant = v, d.valueIn(doc)
	}
	c.check(shape, doc)
	return c.problems
}

// valueIn returns the discriminator's value in a document, "" if it is missing.
func (d *Definition) valueIn(doc *yaml.Node) string {
	for _, step := range d.Discriminator {
		if doc = yamlnode.Field(doc, step); doc == nil {
			return ""
		}
	}
	return doc.Value
}

// checker carries one check; path leads from the root to the current node.
type checker struct {
	definition *Definition
	variant    string // value of the discriminator, "" if it is not known
	path       []step
	problems   []Problem
}

// step is a field's name, or an index if name is "".
type step struct {
	name  string
	index int
}

func (c *checker) report(at *yaml.Node, code, message, allowed string) {
	c.problems = append(c.problems,
		Problem{Node: at, Path: text(c.path), Code: code, Message: message, Allowed: allowed})
}

// reportField is report for a field of the current struct.
func (c *checker) reportField(field string, at *yaml.Node, code, message, allowed string) {
	c.path = append(c.path, step{name: field})
	c.report(at, code, message, allowed)
	c.path = c.path[:len(c.path)-1]
}

func text(path []step) string {
	var b strings.Builder
	for _, s := range path {
		switch {
		case s.name == "":
			fmt.Fprintf(&b, "[%d]", s.index)
		case !isPlain(s.name):
			fmt.Fprintf(&b, "[%s]", strconv.Quote(s.name))
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.name)
		}
	}
	return b.String()
}

// isPlain reports whether a field's name can follow a dot without quotes.
func isPlain(name string) bool {
	for _, r := range name {
		if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return name != ""
}

func (c *checker) check(n *Node, at *yaml.Node) {
	if n.Kind == Any {
		return
	}
	if found := kindOf(at); found != n.Kind {
		c.wrongKind(n, at, found)
		return
	}
	switch n.Kind {
	case Struct:
		if n.OneOf != nil {
			c.union(n, at)
			return
		}
		c.fields(n, at)
	case List:
		c.list(n, at)
	case String:
		c.text(n, at)
	case Int:
		c.number(n, at)
	}
}

func (c *checker) list(n *Node, at *yaml.Node) {
	if len(at.Content) < n.MinItems {
		c.report(at, "value", "the list is empty", fmt.Sprintf("at least %d", n.MinItems))
	}
	for i, item := range at.Content {
		c.path = append(c.path, step{index: i})
		c.check(n.Elem, item)
		c.path = c.path[:len(c.path)-1]
	}
}

func (c *checker) fields(n *Node, at *yaml.Node) {
	seen := make(map[string]*yaml.Node, len(at.Content)/2)
	for i := 0; i+1 < len(at.Content); i += 2 {
		key, value := at.Content[i], at.Content[i+1]
		if first := seen[key.Value]; first != nil {
			c.reportField(key.Value, key, "field-twice",
				fmt.Sprintf("the field is set twice, first on line %d", first.Line),
				"keep one")
			continue
		}
		seen[key.Value] = key
		shape := n.Rest
		if f := n.Field(key.Value); f != nil {
			shape = f.Value
		}
		if shape == nil {
			c.unknown(n, key)
			continue
		}
		c.path = append(c.path, step{name: key.Value})
		c.check(shape, value)
		c.path = c.path[:len(c.path)-1]
	}
	for _, f := range n.Fields {
		if f.Required && seen[f.Name] == nil {
			c.reportField(f.Name, at, "field-missing", f.Name+" is missing", f.Value.describe())
		}
	}
}

// unknown reports a field that the struct lacks: a field of another variant, a misspelled
// field or an unknown one.
func (c *checker) unknown(n *Node, key *yaml.Node) {
	if others := c.variantsWith(key.Value); others != nil {
		c.reportField(key.Value, key, "field-type",
			fmt.Sprintf("%s is not allowed with type %s", key.Value, c.variant), "only with "+list(others))
		return
	}
	var names []string
	for _, f := range n.Fields {
		names = append(names, f.Name)
	}
	allowed := list(names)
	if near := nearest(key.Value, names); near != "" {
		allowed = fmt.Sprintf("did you mean %s?", near)
	}
	c.reportField(key.Value, key, "field-unknown", fmt.Sprintf("unknown field %q", key.Value), allowed)
}

// variantsWith lists the variants that have the field in the current struct. It looks
// only into the struct that has the discriminator.
func (c *checker) variantsWith(field string) []string {
	path := c.definition.Discriminator
	if c.variant == "" || len(c.path) != len(path)-1 {
		return nil
	}
	for i, s := range c.path {
		if s.name != path[i] {
			return nil
		}
	}
	var others []string
	for _, value := range c.definition.Values {
		if c.definition.parent(c.definition.Variant[value]).Field(field) != nil {
			others = append(others, value)
		}
	}
	return others
}

// quoted are the styles of a YAML scalar that is a string whatever its text.
const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

func (c *checker) text(n *Node, at *yaml.Node) {
	if at.Style&quoted == 0 && isYAML11Boolean(at.Value) {
		c.report(at, "kind", fmt.Sprintf("unquoted %s parses as a boolean", at.Value),
			fmt.Sprintf("quote it: %q", at.Value))
		return
	}
	if n.Enum != nil && !slices.Contains(n.Enum, at.Value) {
		allowed := n.describe()
		if near := nearest(at.Value, n.Enum); near != "" {
			allowed = fmt.Sprintf("did you mean %s? %s", near, allowed)
		}
		c.report(at, "value", fmt.Sprintf("%s is not allowed", quote(at.Value)), allowed)
		return
	}
	if !n.accepts(at.Value) {
		c.report(at, "value", fmt.Sprintf("%s is not allowed", quote(at.Value)), n.describe())
	}
}

// accepts reports whether a string satisfies patterns and length.
func (n *Node) accepts(s string) bool {
	if n.MaxRunes > 0 && len(s) > n.MaxRunes && utf8.RuneCountInString(s) > n.MaxRunes {
		return false
	}
	for _, re := range n.Match {
		if !re.MatchString(s) {
			return false
		}
	}
	for _, re := range n.NotMatch {
		if re.MatchString(s) {
			return false
		}
	}
	return true
}

func (c *checker) number(n *Node, at *yaml.Node) {
	var i int64
	if err := at.Decode(&i); err != nil || n.Min != nil && i < *n.Min || n.Max != nil && i > *n.Max {
		c.report(at, "value", at.Value+" is not allowed", n.describe())
	}
}
