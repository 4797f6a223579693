package shape

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Node    *yaml.Node // where it stands; for a missing field, what lacks it
	Path    string     // such as spec.bricks[2].node
	Code    string     // field-unknown, field-missing, field-twice, kind, value, union
	Message string
	Allowed string
}

// Check holds a document against the definition and returns all that is wrong.
// The document must have no aliases and no merge keys.
func (d *Definition) Check(doc *yaml.Node) []Problem {
	c := checker{definition: d}
	shape := d.Merged
	if v, known := d.Variant[d.deciding(doc)]; known {
		shape, c.variant = v, d.deciding(doc)
	}
	c.check(shape, doc)
	return c.problems
}

// deciding gives the value of the field on which others depend, "" without one.
func (d *Definition) deciding(doc *yaml.Node) string {
	for _, step := range d.On {
		if doc = get(doc, step); doc == nil {
			return ""
		}
	}
	return doc.Value
}

func get(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// checker carries one check; path is the way from the root to the node at hand.
type checker struct {
	definition *Definition
	variant    string // value of the deciding field, "" when it is not known
	path       []step
	problems   []Problem
}

// step is a field's name, or an index where name is "".
type step struct {
	name  string
	index int
}

func (c *checker) say(at *yaml.Node, code, message, allowed string) {
	c.problems = append(c.problems, Problem{Node: at, Path: text(c.path), Code: code, Message: message, Allowed: allowed})
}

// sayOf is say for a field of the struct at hand.
func (c *checker) sayOf(field string, at *yaml.Node, code, message, allowed string) {
	c.path = append(c.path, step{name: field})
	c.say(at, code, message, allowed)
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

// isPlain reports whether a field's name can stand after a dot.
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
		c.say(at, "value", "the list is empty", fmt.Sprintf("at least %d", n.MinItems))
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
			c.sayOf(key.Value, key, "field-twice", fmt.Sprintf("the field is given twice, first in line %d", first.Line), "one of them")
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
			c.sayOf(f.Name, at, "field-missing", f.Name+" is missing", f.Value.words())
		}
	}
}

// unknown reports a field that the struct has not: one of another variant, one
// that is nearly spelled like one of ours, or one that nobody knows.
func (c *checker) unknown(n *Node, key *yaml.Node) {
	if others := c.elsewhere(key.Value); others != nil {
		c.sayOf(key.Value, key, "field-type",
			fmt.Sprintf("%s is not for type %s", key.Value, c.variant), "it is for "+list(others))
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
	c.sayOf(key.Value, key, "field-unknown", fmt.Sprintf("unknown field %q", key.Value), allowed)
}

// elsewhere lists the variants that have the field in the struct at hand.
func (c *checker) elsewhere(field string) []string {
	on := c.definition.On
	if c.variant == "" || len(c.path) != len(on)-1 {
		return nil
	}
	var others []string
	for _, value := range c.definition.Values {
		at := c.definition.Variant[value]
		for i, s := range c.path {
			if s.name != on[i] {
				return nil
			}
			at = at.Field(s.name).Value
		}
		if at.Field(field) != nil {
			others = append(others, value)
		}
	}
	return others
}

func (c *checker) text(n *Node, at *yaml.Node) {
	if at.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 && isSwitch(at.Value) {
		c.say(at, "kind", fmt.Sprintf("%s without quotes is true or false to Kubernetes", at.Value), fmt.Sprintf("%q, in quotes", at.Value))
		return
	}
	if n.Enum != nil && !slices.Contains(n.Enum, at.Value) {
		allowed := n.words()
		if near := nearest(at.Value, n.Enum); near != "" {
			allowed = fmt.Sprintf("did you mean %s? %s", near, allowed)
		}
		c.say(at, "value", fmt.Sprintf("%s is not allowed", quote(at.Value)), allowed)
		return
	}
	if !n.takes(at.Value) {
		c.say(at, "value", fmt.Sprintf("%s is not allowed", quote(at.Value)), n.words())
	}
}

// takes reports whether a string satisfies patterns and length.
func (n *Node) takes(s string) bool {
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
		c.say(at, "value", at.Value+" is not allowed", n.words())
	}
}
