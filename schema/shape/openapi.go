package shape

import (
	"fmt"
	"slices"
	"strings"
)

// OpenAPI is a schema as API servers require for custom resources: a structural schema,
// with a single type for every field, and CEL rules for the rest.
type OpenAPI map[string]any

// Rule is a condition on a value, in CEL (x-kubernetes-validations).
type Rule struct{ Rule, Message string }

// Rules are conditions that the tree does not have, by the name of a definition, such as
// "#Toleration". The key "spec" is the struct that has the discriminator.
type Rules map[string][]Rule

// maxItems limits lists, by the name of the field: an API server rejects rules that may be
// too expensive, and estimates the cost for the longest list allowed.
var maxItems = map[string]int64{
	"bricks": 2048, "volumes": 3, "storageClasses": 64, "tolerations": 64, "mountOptions": 64,
	"options": 64, "hosts": 64, "hostAliases": 256, "hostnames": 64,
}

// OpenAPI writes the definition and adds the given status. It has the fields of all
// variants; CEL rules check which of them may be combined.
func (d *Definition) OpenAPI(rules Rules, status map[string]any) OpenAPI {
	w := openAPIWriter{rules: rules}
	root := w.node(d.Merged, "")
	properties := root["properties"].(map[string]any)
	properties["apiVersion"], properties["kind"] = OpenAPI{"type": "string"}, OpenAPI{"type": "string"}
	// A structural schema may constrain only the name and generateName of metadata.
	metadata := d.Merged.Field("metadata").Value
	properties["metadata"] = OpenAPI{
		"type":       "object",
		"properties": map[string]any{"name": w.node(metadata.Field("name").Value, "name")},
	}
	properties["status"] = status
	root["required"] = []string{"metadata", d.Discriminator[0]}
	root["description"] = d.Doc
	at := root
	for _, step := range d.Discriminator[:len(d.Discriminator)-1] {
		at = at["properties"].(map[string]any)[step].(OpenAPI)
	}
	at["required"] = []string{d.name()}
	all := slices.Clone(rules["spec"])
	for _, value := range d.Values {
		all = append(all, d.variantRules(value)...)
	}
	at["x-kubernetes-validations"] = validations(all)
	return root
}

// variantRules returns rules for the fields that a value of the discriminator requires or
// does not allow.
func (d *Definition) variantRules(value string) []Rule {
	variant, name := d.parent(d.Variant[value]), d.name()
	var all []Rule
	for _, f := range d.parent(d.Merged).Fields {
		field := variant.Field(f.Name)
		switch {
		case f.Name == name:
		case field == nil:
			all = append(all, Rule{
				fmt.Sprintf("self.%s != '%s' || !has(self.%s)", name, value, f.Name),
				fmt.Sprintf("%s is not allowed with %s %s", f.Name, name, value),
			})
		case field.Required:
			all = append(all, Rule{
				fmt.Sprintf("self.%s != '%s' || has(self.%s)", name, value, f.Name),
				fmt.Sprintf("%s %s needs %s", name, value, f.Name),
			})
		}
	}
	return all
}

func validations(rules []Rule) []any {
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
		s["x-kubernetes-validations"] = append(before, validations(more)...)
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

// union returns the fields of all alternatives and adds a rule that the value must match
// one alternative.
func (w openAPIWriter) union(n *Node, s OpenAPI) (fields []Field) {
	for _, o := range n.OneOf {
		for _, f := range o.Fields {
			if !slices.ContainsFunc(fields, func(known Field) bool { return known.Name == f.Name }) {
				fields = append(fields, f)
			}
		}
	}
	var each []string
	for _, o := range n.OneOf {
		var conditions []string
		for _, f := range fields {
			field := o.Field(f.Name)
			switch {
			case field == nil:
				conditions = append(conditions, "!has(self."+f.Name+")")
			case field.Required:
				conditions = append(conditions, "has(self."+f.Name+")")
			}
		}
		each = append(each, strings.Join(conditions, " && "))
	}
	s["x-kubernetes-validations"] = validations([]Rule{{strings.Join(each, " || "), n.describe()}})
	return fields
}

// defaultMaxLength limits strings that have no limit in the definition: an API server must
// be able to estimate the cost of rules that compare them.
const defaultMaxLength = 4096

func openAPIString(n *Node) OpenAPI {
	s := OpenAPI{"type": "string", "maxLength": int64(defaultMaxLength)}
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
