package shape

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// union holds a struct against the alternative that its fields name. A field
// names an alternative when no other has it.
func (c *checker) union(n *Node, at *yaml.Node) {
	chosen := -1
	var telling []string
	for i := 0; i+1 < len(at.Content); i += 2 {
		key := at.Content[i].Value
		owner, owned := n.owner(key)
		if !owned {
			continue
		}
		telling = append(telling, key)
		if chosen >= 0 && owner != chosen {
			c.say(at, "union", both(telling)+" exclude each other", n.words())
			return
		}
		chosen = owner
	}
	if chosen < 0 {
		c.say(at, "union", "it does not say what it is: "+n.choices()+" is missing", n.words())
		return
	}
	c.alternative(n, n.OneOf[chosen], telling[0], at)
}

// alternative checks the chosen one; a field that only others have is named as such.
func (c *checker) alternative(n, one *Node, by string, at *yaml.Node) {
	rest := *at
	rest.Content = nil
	for i := 0; i+1 < len(at.Content); i += 2 {
		key := at.Content[i]
		if one.Field(key.Value) == nil && n.has(key.Value) {
			c.sayOf(key.Value, key, "union", fmt.Sprintf("%s does not go with %s", key.Value, by), n.words())
			continue
		}
		rest.Content = append(rest.Content, key, at.Content[i+1])
	}
	c.fields(one, &rest)
}

func (n *Node) has(field string) bool {
	return slices.ContainsFunc(n.OneOf, func(one *Node) bool { return one.Field(field) != nil })
}

// owner gives the only alternative that has the field.
func (n *Node) owner(field string) (index int, only bool) {
	index = -1
	for i, one := range n.OneOf {
		if one.Field(field) == nil {
			continue
		}
		if index >= 0 {
			return -1, false
		}
		index = i
	}
	return index, index >= 0
}

// choices lists the required fields that tell the alternatives apart.
func (n *Node) choices() string {
	var names []string
	for _, one := range n.OneOf {
		for _, f := range one.Fields {
			if _, only := n.owner(f.Name); only && f.Required {
				names = append(names, f.Name)
			}
		}
	}
	return list(names)
}

// forms writes the alternatives with their required fields: {node, device} or {pvc}.
func (n *Node) forms() string {
	var forms []string
	for _, one := range n.OneOf {
		var names []string
		for _, f := range one.Fields {
			if f.Required {
				names = append(names, f.Name)
			}
		}
		forms = append(forms, "{"+strings.Join(names, ", ")+"}")
	}
	return list(forms)
}
