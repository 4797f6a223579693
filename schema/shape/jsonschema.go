package shape

import (
	"encoding/json"
	"strings"
)

// jsonSchema is the part of JSON Schema draft-07 that a definition needs. YAML language
// servers of editors support draft-07 best.
type jsonSchema struct {
	Schema      string `json:"$schema,omitempty"`
	ID          string `json:"$id,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	Ref         string `json:"$ref,omitempty"`

	Type  string   `json:"type,omitempty"`
	Const string   `json:"const,omitempty"`
	Enum  []string `json:"enum,omitempty"`

	Pattern   string `json:"pattern,omitempty"`
	MaxLength int    `json:"maxLength,omitempty"`
	Minimum   *int64 `json:"minimum,omitempty"`
	Maximum   *int64 `json:"maximum,omitempty"`
	// Editors show it instead of the pattern.
	PatternMessage string `json:"patternErrorMessage,omitempty"`

	Required   []string               `json:"required,omitempty"`
	Properties map[string]*jsonSchema `json:"properties,omitempty"`
	Additional any                    `json:"additionalProperties,omitempty"` // false or *jsonSchema

	Items    *jsonSchema `json:"items,omitempty"`
	MinItems int         `json:"minItems,omitempty"`

	AllOf []*jsonSchema `json:"allOf,omitempty"`
	OneOf []*jsonSchema `json:"oneOf,omitempty"`
	Not   *jsonSchema   `json:"not,omitempty"`
	If    *jsonSchema   `json:"if,omitempty"`
	Then  *jsonSchema   `json:"then,omitempty"`

	Definitions map[string]*jsonSchema `json:"definitions,omitempty"`
}

// JSONSchema writes the definition as a JSON schema for editors.
func (d *Definition) JSONSchema(id, title string) ([]byte, error) {
	w := schemaWriter{definitions: map[string]*jsonSchema{}}
	root := w.object(d.Merged)
	root.Schema, root.ID, root.Title, root.Description = "http://json-schema.org/draft-07/schema#", id, title, d.Doc
	at := root
	for _, step := range d.Discriminator[:len(d.Discriminator)-1] {
		at = at.Properties[step]
	}
	// Each value of the discriminator has a branch with the fields that it allows.
	name := d.name()
	*at = jsonSchema{
		Description: at.Description, Type: "object", Required: []string{name},
		Properties: map[string]*jsonSchema{name: w.field(*d.parent(d.Merged).Field(name))},
	}
	for _, value := range d.Values {
		at.AllOf = append(at.AllOf, &jsonSchema{
			If:   &jsonSchema{Properties: map[string]*jsonSchema{name: {Const: value}}, Required: []string{name}},
			Then: w.object(d.parent(d.Variant[value])),
		})
	}
	root.Definitions = w.definitions
	out, err := json.MarshalIndent(root, "", "  ")
	return append(out, '\n'), err
}

type schemaWriter struct {
	definitions map[string]*jsonSchema
}

func (w schemaWriter) field(f Field) *jsonSchema {
	s := w.node(f.Value)
	if s.Ref != "" && f.Doc != "" {
		// Beside $ref, draft-07 ignores everything else.
		s = &jsonSchema{AllOf: []*jsonSchema{s}}
	}
	s.Description = strings.ReplaceAll(f.Doc, "\n", " ")
	return s
}

// node writes a node. A named node is written once, under definitions, and referenced.
func (w schemaWriter) node(n *Node) *jsonSchema {
	if n.Definition == "" {
		return w.plain(n)
	}
	name := strings.TrimPrefix(n.Definition, "#")
	if w.definitions[name] == nil {
		w.definitions[name] = &jsonSchema{} // ends a recursion
		w.definitions[name] = w.plain(n)
	}
	return &jsonSchema{Ref: "#/definitions/" + name}
}

func (w schemaWriter) plain(n *Node) *jsonSchema {
	switch n.Kind {
	case Struct:
		return w.object(n)
	case List:
		return &jsonSchema{Type: "array", Items: w.node(n.Elem), MinItems: n.MinItems}
	case String:
		return stringSchema(n)
	case Int:
		return &jsonSchema{Type: "integer", Minimum: n.Min, Maximum: n.Max}
	case Bool:
		return &jsonSchema{Type: "boolean"}
	}
	return &jsonSchema{}
}

func (w schemaWriter) object(n *Node) *jsonSchema {
	s := &jsonSchema{Type: "object"}
	for _, o := range n.OneOf {
		s.OneOf = append(s.OneOf, w.node(o))
	}
	if n.OneOf != nil {
		return s
	}
	if len(n.Fields) > 0 {
		s.Properties = map[string]*jsonSchema{}
	}
	for _, f := range n.Fields {
		s.Properties[f.Name] = w.field(f)
		if f.Required {
			s.Required = append(s.Required, f.Name)
		}
	}
	switch {
	case n.Rest == nil:
		s.Additional = false
	case n.Rest.Kind != Any:
		s.Additional = w.node(n.Rest)
	}
	return s
}

func stringSchema(n *Node) *jsonSchema {
	s := &jsonSchema{Type: "string", Enum: n.Enum, MaxLength: n.MaxRunes, PatternMessage: n.Allowed}
	for i, re := range n.Match {
		if i == 0 {
			s.Pattern = re.String()
			continue
		}
		s.AllOf = append(s.AllOf, &jsonSchema{Pattern: re.String()})
	}
	for _, re := range n.NotMatch {
		s.AllOf = append(s.AllOf, &jsonSchema{Not: &jsonSchema{Pattern: re.String()}})
	}
	return s
}
