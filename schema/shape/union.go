package shape

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// union checks a struct against the alternative that its fields select. A field selects
// an alternative if no other has that field.
func (c *checker) union(n *Node, at *yaml.Node) {
	chosen := -1
	var selecting []string
	for i := 0; i+1 < len(at.Content); i += 2 {
		key := at.Content[i].Value
		owner, owned := n.owner(key)
		if !owned {
			continue
		}
		selecting = append(selecting, key)
		if chosen >= 0 && owner != chosen {
			c.report(at, "union", both(selecting)+" exclude each other", n.describe())
			return
		}
		chosen = owner
	}
	if chosen < 0 {
		c.report(at, "union", n.choices()+" is missing", n.describe())
		return
	}
	c.alternative(n, n.OneOf[chosen], selecting[0], at)
}

// alternative checks a struct against the chosen alternative. It reports a field that only
// others have as a conflict with the field that selected it.
func (c *checker) alternative(n, chosen *Node, by string, at *yaml.Node) {
	rest := *at
	rest.Content = nil
	for i := 0; i+1 < len(at.Content); i += 2 {
		key := at.Content[i]
		if chosen.Field(key.Value) == nil && n.has(key.Value) {
			c.reportField(key.Value, key, "union", fmt.Sprintf("%s cannot be combined with %s", key.Value, by),
				n.describe())
			continue
		}
		rest.Content = append(rest.Content, key, at.Content[i+1])
	}
	c.fields(chosen, &rest)
}

func (n *Node) has(field string) bool {
	return slices.ContainsFunc(n.OneOf, func(o *Node) bool { return o.Field(field) != nil })
}

// owner returns the only alternative that has the field.
func (n *Node) owner(field string) (index int, only bool) {
	index = -1
	for i, o := range n.OneOf {
		if o.Field(field) == nil {
			continue
		}
		if index >= 0 {
			return -1, false
		}
		index = i
	}
	return index, index >= 0
}

// choices lists the required fields that select an alternative.
func (n *Node) choices() string {
	var names []string
	for _, o := range n.OneOf {
		for _, f := range o.Fields {
			if _, only := n.owner(f.Name); only && f.Required {
				names = append(names, f.Name)
			}
		}
	}
	return list(names)
}

// forms lists the alternatives with their required fields: {node, device} or {pvc}.
func (n *Node) forms() string {
	var forms []string
	for _, o := range n.OneOf {
		var names []string
		for _, f := range o.Fields {
			if f.Required {
				names = append(names, f.Name)
			}
		}
		forms = append(forms, "{"+strings.Join(names, ", ")+"}")
	}
	return list(forms)
}
