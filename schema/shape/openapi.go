package shape

import (
	"fmt"
	"slices"
	"strings"
)

// OpenAPI is a schema as API servers take it for custom resources: "structural", with one
// type for every field, and rules in CEL for what that cannot say.
type OpenAPI map[string]any

// Rule is a condition on a value, in CEL (x-kubernetes-validations).
type Rule struct{ Rule, Message string }

// Rules are those beside what the tree says, by the name of a definition, such as
// "#Toleration"; "spec" are those of the struct that has the deciding field.
type Rules map[string][]Rule

// maxItems bounds lists, by the name of the field: an API server refuses rules that could
// cost too much, and reckons with the longest list that there may be.
var maxItems = map[string]int64{"bricks": 2048, "volumes": 3, "storageClasses": 64, "tolerations": 64, "mountOptions": 64, "options": 64, "hosts": 64, "hostAliases": 256, "hostnames": 64}

// OpenAPI writes the definition, with a status that is not the document's. Its fields are those of all variants; which of them go
// together is said by rules.
func (d *Definition) OpenAPI(rules Rules, status map[string]any) OpenAPI {
	w := openAPIWriter{rules: rules}
	root := w.node(d.Merged, "")
	properties := root["properties"].(map[string]any)
	properties["apiVersion"], properties["kind"] = OpenAPI{"type": "string"}, OpenAPI{"type": "string"}
	// Of metadata, only the name can be said something of.
	properties["metadata"] = OpenAPI{"type": "object", "properties": map[string]any{"name": w.node(d.Merged.Field("metadata").Value.Field("name").Value, "name")}}
	properties["status"] = status
	root["required"] = []string{"metadata", d.On[0]}
	root["description"] = d.Doc
	at := root
	for _, step := range d.On[:len(d.On)-1] {
		at = at["properties"].(map[string]any)[step].(OpenAPI)
	}
	last := d.On[len(d.On)-1]
	at["required"] = []string{last}
	all := slices.Clone(rules["spec"])
	for _, value := range d.Values {
		all = append(all, d.goesWith(last, value)...)
	}
	at["x-kubernetes-validations"] = written(all)
	return root
}

// goesWith says which fields must, and which must not, be beside the deciding one.
func (d *Definition) goesWith(deciding, value string) []Rule {
	merged, variant := d.Merged, d.Variant[value]
	for _, step := range d.On[:len(d.On)-1] {
		merged, variant = merged.Field(step).Value, variant.Field(step).Value
	}
	var all []Rule
	for _, f := range merged.Fields {
		one := variant.Field(f.Name)
		switch {
		case f.Name == deciding:
		case one == nil:
			all = append(all, Rule{fmt.Sprintf("self.%s != '%s' || !has(self.%s)", deciding, value, f.Name), fmt.Sprintf("%s does not go with %s %s", f.Name, deciding, value)})
		case one.Required:
			all = append(all, Rule{fmt.Sprintf("self.%s != '%s' || has(self.%s)", deciding, value, f.Name), fmt.Sprintf("%s %s needs %s", deciding, value, f.Name)})
		}
	}
	return all
}

func written(rules []Rule) []any {
	var all []any
	for _, r := range rules {
		all = append(all, map[string]any{"rule": r.Rule, "message": r.Message})
	}
	return all
}

type openAPIWriter struct{ rules Rules }

func (w openAPIWriter) node(n *Node, field string) OpenAPI {
	var s OpenAPI
	switch n.Kind {
	case Struct:
		s = w.object(n)
	case List:
		s = OpenAPI{"type": "array", "items": w.node(n.Elem, ""), "maxItems": maxItems[field]}
		if maxItems[field] == 0 {
			delete(s, "maxItems")
		}
		if n.MinItems > 0 {
			s["minItems"] = int64(n.MinItems)
		}
	case String:
		s = openAPIString(n)
	case Int:
		s = OpenAPI{"type": "integer", "format": "int64"}
		if n.Min != nil {
			s["minimum"] = *n.Min
		}
		if n.Max != nil {
			s["maximum"] = *n.Max
		}
	case Bool:
		s = OpenAPI{"type": "boolean"}
	default:
		s = OpenAPI{"x-kubernetes-preserve-unknown-fields": true}
	}
	if more := w.rules[n.Definition]; len(more) > 0 && n.Definition != "" {
		before, _ := s["x-kubernetes-validations"].([]any)
		s["x-kubernetes-validations"] = append(before, written(more)...)
	}
	return s
}

func (w openAPIWriter) object(n *Node) OpenAPI {
	s := OpenAPI{"type": "object"}
	fields := n.Fields
	if n.OneOf != nil {
		fields = w.union(n, s)
	}
	if len(fields) > 0 {
		properties := map[string]any{}
		for _, f := range fields {
			p := w.node(f.Value, f.Name)
			if f.Doc != "" {
				p["description"] = strings.ReplaceAll(f.Doc, "\n", " ")
			}
			properties[f.Name] = p
		}
		s["properties"] = properties
	}
	var required []string
	for _, f := range n.Fields {
		if f.Required {
			required = append(required, f.Name)
		}
	}
	if len(required) > 0 {
		s["required"] = required
	}
	if n.Rest != nil && n.Rest.Kind != Any {
		s["additionalProperties"] = w.node(n.Rest, "")
	}
	return s
}

// union gives the fields of all alternatives, and a rule that exactly one of these is
// there.
func (w openAPIWriter) union(n *Node, s OpenAPI) (fields []Field) {
	for _, one := range n.OneOf {
		for _, f := range one.Fields {
			if !slices.ContainsFunc(fields, func(o Field) bool { return o.Name == f.Name }) {
				fields = append(fields, f)
			}
		}
	}
	var each []string
	for _, one := range n.OneOf {
		var is []string
		for _, f := range fields {
			own := one.Field(f.Name)
			switch {
			case own == nil:
				is = append(is, "!has(self."+f.Name+")")
			case own.Required:
				is = append(is, "has(self."+f.Name+")")
			}
		}
		each = append(each, strings.Join(is, " && "))
	}
	s["x-kubernetes-validations"] = written([]Rule{{strings.Join(each, " || "), n.words()}})
	return fields
}

// longest is for strings without a limit of their own: rules that compare them must have
// a cost that is known.
const longest = 4096

func openAPIString(n *Node) OpenAPI {
	s := OpenAPI{"type": "string", "maxLength": int64(longest)}
	if n.MaxRunes > 0 {
		s["maxLength"] = int64(n.MaxRunes)
	}
	if n.Enum != nil {
		return OpenAPI{"type": "string", "enum": n.Enum}
	}
	var more []any
	for i, re := range n.Match {
		if i == 0 {
			s["pattern"] = re.String()
			continue
		}
		more = append(more, OpenAPI{"pattern": re.String()})
	}
	for _, re := range n.NotMatch {
		more = append(more, OpenAPI{"not": OpenAPI{"pattern": re.String()}})
	}
	if more != nil {
		s["allOf"] = more
	}
	return s
}
