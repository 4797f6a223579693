package shape

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cuelang.org/go/cue"
	"cuelang.org/go/cue/cuecontext"
)

// Compile reads a definition from a CUE source. discriminator is the path of the field
// on which other fields depend, an enumeration of strings.
func Compile(source, definition, discriminator string) (*Definition, error) {
	root := cuecontext.New().CompileString(source)
	if err := root.Err(); err != nil {
		return nil, fmt.Errorf("compile the schema: %w", err)
	}
	def := root.LookupPath(cue.ParsePath(definition))
	if err := def.Err(); err != nil {
		return nil, fmt.Errorf("look up %s: %w", definition, err)
	}
	d := &Definition{Doc: docs(def), Discriminator: strings.Split(discriminator, "."), Variant: map[string]*Node{}}
	path := cue.ParsePath(discriminator)
	values := &Node{Kind: String}
	if err := constrain(values, required(def, d.Discriminator)); err != nil {
		return nil, fmt.Errorf("%s.%s: %w", definition, discriminator, err)
	}
	d.Values = values.Enum
	for _, value := range d.Values {
		n, err := compile(def.FillPath(path, value))
		if err != nil {
			return nil, fmt.Errorf("%s with %s %s: %w", definition, discriminator, value, err)
		}
		// FillPath makes the field a constant; a document may have any of the values.
		at := n
		for i, step := range d.Discriminator {
			f := at.Field(step)
			f.Required = true
			if at = f.Value; i == len(d.Discriminator)-1 {
				at.Enum = d.Values
			}
		}
		d.Variant[value] = n
		d.Merged = merge(d.Merged, n, d.Discriminator)
	}
	return d, nil
}

// required follows fields that may still be constraints (name!).
func required(v cue.Value, path []string) cue.Value {
	for _, step := range path {
		v = v.LookupPath(cue.MakePath(cue.Str(step).Required()))
	}
	return v
}

func compile(v cue.Value) (*Node, error) {
	n := &Node{Definition: name(v), Allowed: allowed(v)}
	switch k := v.IncompleteKind(); k {
	case cue.StringKind:
		n.Kind = String
		return n, constrain(n, v)
	case cue.IntKind:
		n.Kind = Int
		return n, constrain(n, v)
	case cue.BoolKind:
		n.Kind = Bool
		return n, nil
	case cue.StructKind:
		n.Kind = Struct
		return n, structure(n, v)
	case cue.ListKind:
		n.Kind = List
		return n, sequence(n, v)
	case cue.TopKind:
		n.Kind = Any
		return n, nil
	default:
		return nil, fmt.Errorf("%s: values of kind %s are not supported", v.Path(), k)
	}
}

func structure(n *Node, v cue.Value) error {
	if op, args := cue.Dereference(v).Expr(); op == cue.OrOp {
		for _, arg := range args {
			one, err := compile(arg)
			if err != nil {
				return err
			}
			n.OneOf = append(n.OneOf, one)
		}
		return nil
	}
	fields, err := v.Fields(cue.Optional(true), cue.Patterns(true))
	if err != nil {
		return err
	}
	for fields.Next() {
		value, err := compile(fields.Value())
		if err != nil {
			return err
		}
		if fields.FieldType()&cue.PatternConstraint != 0 {
			n.Rest = value
			continue
		}
		n.Fields = append(n.Fields, Field{
			Name: fields.Selector().Unquoted(), Doc: docs(fields.Value()),
			Required: fields.FieldType()&cue.OptionalConstraint == 0, Value: value,
		})
	}
	if n.Rest == nil && v.Allows(cue.Str("a field that no schema has")) {
		n.Rest = &Node{Kind: Any}
	}
	return nil
}

func sequence(n *Node, v cue.Value) error {
	elem := v.LookupPath(cue.MakePath(cue.AnyIndex))
	var err error
	if n.Elem, err = compile(elem); err != nil {
		return err
	}
	bound := &Node{Kind: Int}
	if err := constrain(bound, v.Len()); err == nil && bound.Min != nil {
		n.MinItems = int(*bound.Min)
	}
	return nil
}

// constrain adds the constraints of an expression over a string or an integer.
func constrain(n *Node, v cue.Value) error {
	v = cue.Dereference(v)
	op, args := v.Expr()
	switch op {
	case cue.NoOp:
		return constant(n, v)
	case cue.AndOp, cue.OrOp:
		for _, arg := range args {
			if err := constrain(n, arg); err != nil {
				return err
			}
		}
		return nil
	case cue.RegexMatchOp, cue.NotRegexMatchOp:
		text, err := args[0].String()
		if err != nil {
			return err
		}
		re, err := regexp.Compile(text)
		if op == cue.RegexMatchOp {
			n.Match = append(n.Match, re)
		} else {
			n.NotMatch = append(n.NotMatch, re)
		}
		return err
	case cue.GreaterThanEqualOp, cue.LessThanEqualOp:
		bound, err := args[0].Int64()
		if op == cue.GreaterThanEqualOp {
			n.Min = &bound
		} else {
			n.Max = &bound
		}
		return err
	case cue.CallOp:
		if fmt.Sprint(args[0]) == "strings.MaxRunes" && len(args) == 2 {
			limit, err := args[1].Int64()
			n.MaxRunes = int(limit)
			return err
		}
	}
	return fmt.Errorf("%s: the constraint %v is not supported", v.Path(), v)
}

// constant adds a concrete string to the allowed values; a bare type adds no constraint.
func constant(n *Node, v cue.Value) error {
	if !v.IsConcrete() {
		return nil
	}
	text, err := v.String()
	if err != nil {
		return fmt.Errorf("%s: constants must be strings: %w", v.Path(), err)
	}
	if !slices.Contains(n.Enum, text) {
		n.Enum = append(n.Enum, text)
	}
	return nil
}

// name returns the definition that a value refers to, "" if it refers to none.
func name(v cue.Value) string {
	_, path := v.ReferencePath()
	if s := path.Selectors(); len(s) == 1 && s[0].IsDefinition() {
		return s[0].String()
	}
	return ""
}

func allowed(v cue.Value) string {
	for _, from := range []cue.Value{v, cue.Dereference(v)} {
		for _, a := range from.Attributes(cue.ValueAttr) {
			if a.Name() == "allowed" {
				if text, err := a.String(0); err == nil {
					return text
				}
			}
		}
	}
	return ""
}

func docs(v cue.Value) string {
	var parts []string
	for _, group := range v.Doc() {
		parts = append(parts, strings.TrimSpace(group.Text()))
	}
	return strings.Join(slices.Compact(parts), "\n")
}

// merge joins two variants. Along path, which leads to the discriminator, it keeps all
// fields of both; for a field of both it keeps the value of a. A field is required only
// if it is in both.
func merge(a, b *Node, path []string) *Node {
	if a == nil {
		a = &Node{Kind: b.Kind, Definition: b.Definition, Rest: b.Rest}
	}
	for _, f := range b.Fields {
		known := a.Field(f.Name)
		switch {
		case known == nil:
			if len(path) == 1 && f.Name != path[0] {
				f.Required = false
			}
			if len(path) > 1 && f.Name == path[0] {
				f.Value = merge(nil, f.Value, path[1:])
			}
			a.Fields = append(a.Fields, f)
		case len(path) > 1 && f.Name == path[0]:
			known.Value = merge(known.Value, f.Value, path[1:])
		}
	}
	return a
}
