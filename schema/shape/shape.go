// Package shape compiles a CUE definition into a plain tree and checks documents against
// it. CUE stays the only definition. The tree has the same constraints in a form that is
// fast to check, knows the line of every field and reports all problems in one pass. The
// JSON schema, the OpenAPI schema and the reference are written from it too.
package shape

import "regexp"

// Kind is the kind of value that a node accepts.
type Kind string

// The kinds of values.
const (
	Any    Kind = "any"
	String Kind = "string"
	Int    Kind = "int"
	Bool   Kind = "bool"
	Struct Kind = "struct"
	List   Kind = "list"
)

// Node describes one value of a document.
type Node struct {
	Kind       Kind
	Definition string // name in the CUE source, such as #Brick; "" if it has none
	Allowed    string // the attribute @allowed: a description of allowed values

	Enum            []string         // String: the only values
	Match, NotMatch []*regexp.Regexp // String: all of Match and none of NotMatch must match somewhere
	MaxRunes        int              // String: 0 means no limit

	Min, Max *int64 // Int: bounds, inclusive

	Fields []Field // Struct, in the order of the source
	Rest   *Node   // Struct: the value of every other field; nil if none is allowed
	OneOf  []*Node // Struct: exactly one of these instead of Fields

	Elem     *Node // List
	MinItems int   // List
}

// Field is a field of a struct.
type Field struct {
	Name     string
	Doc      string
	Required bool
	Value    *Node
}

// Field returns the field with this name, nil if the struct has none.
func (n *Node) Field(name string) *Field {
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			return &n.Fields[i]
		}
	}
	return nil
}

// Definition is a compiled definition in which one field, the discriminator, decides
// which other fields are allowed.
type Definition struct {
	Doc           string
	Discriminator []string         // its path, such as spec, type
	Values        []string         // its values, in the order of the source
	Variant       map[string]*Node // the whole document, for each value
	// Merged has the fields of all variants, none of them required below the
	// discriminator: it checks documents in which that is missing or unknown.
	Merged *Node
}

// parent returns the struct of n that has the discriminator; n is the whole document.
func (d *Definition) parent(n *Node) *Node {
	for _, step := range d.Discriminator[:len(d.Discriminator)-1] {
		n = n.Field(step).Value
	}
	return n
}

// name returns the discriminator's own name.
func (d *Definition) name() string { return d.Discriminator[len(d.Discriminator)-1] }
