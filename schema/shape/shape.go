// Package shape compiles a CUE definition into a plain tree and holds documents
// against it. CUE stays the only definition; the tree is what its constraints
// say, in a form that is quick to check, knows the line of every field, and
// finds all that is wrong in one pass. The same tree writes the JSON schema and
// the reference.
package shape

import "regexp"

// Kind is what sort of value a node takes.
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

// Node is what one value of a document may be.
type Node struct {
	Kind       Kind
	Definition string // name in the CUE source, such as #Brick; "" when it has none
	Allowed    string // the attribute @allowed: what is allowed, in words

	Enum            []string         // String: the only values
	Match, NotMatch []*regexp.Regexp // String: all, and none, of them match somewhere
	MaxRunes        int              // String: 0 is no limit

	Min, Max *int64 // Int: bounds, inclusive

	Fields []Field // Struct, in the order of the source
	Rest   *Node   // Struct: the value of every other field; nil when there may be none
	OneOf  []*Node // Struct: exactly one of them instead of Fields

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

// Field returns the field with this name, nil when the struct lists none.
func (n *Node) Field(name string) *Field {
	for i := range n.Fields {
		if n.Fields[i].Name == name {
			return &n.Fields[i]
		}
	}
	return nil
}

// Definition is a compiled definition whose fields depend on one field's value.
type Definition struct {
	Doc     string
	On      []string         // path of the deciding field, such as spec, type
	Values  []string         // its values, in the order of the source
	Variant map[string]*Node // the whole document, for each value
	// Merged has the fields of all variants, none of them required below the
	// deciding field: what can be said of a document whose value is not known.
	Merged *Node
}
