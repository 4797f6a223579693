package shape

import (
	"fmt"
	"slices"
	"strings"
)

// Reference writes the definition as Markdown: the fields of the document, the pool types
// that have each field, and every named definition.
func (d *Definition) Reference(title string) string {
	r := reference{definition: d}
	fmt.Fprintf(&r.out, "# %s\n\n%s\n\n", title, d.Doc)
	r.table(d.Merged)
	for i := 0; i < len(r.queue); i++ {
		next := r.queue[i]
		name := strings.TrimPrefix(next.Definition, "#")
		if name == "" {
			name = "Spec"
		}
		fmt.Fprintf(&r.out, "## %s\n\n", name)
		if next.OneOf == nil {
			r.table(next)
			continue
		}
		fmt.Fprintf(&r.out, "One of %s.\n\n", next.forms())
		for _, o := range next.OneOf {
			fmt.Fprintf(&r.out, "### %s\n\n", strings.TrimPrefix(o.Definition, "#"))
			r.table(o)
		}
	}
	return r.out.String()
}

type reference struct {
	definition *Definition
	out        strings.Builder
	queue      []*Node // structs that get a section
}

func (r *reference) table(n *Node) {
	byType := n == r.definition.parent(r.definition.Merged)
	columns := []string{"Field", "Value", "Meaning"}
	if byType {
		columns = append(columns, "For types")
	}
	fmt.Fprintf(&r.out, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	fields := slices.Clone(n.Fields)
	if byType { // the discriminator first
		slices.SortStableFunc(fields, func(a, b Field) int { return r.rank(a) - r.rank(b) })
	}
	for _, f := range fields {
		cells := []string{"`" + f.Name + "`", r.value(f.Value), strings.ReplaceAll(f.Doc, "\n", " ")}
		if f.Required {
			cells[0] += " (required)"
		}
		if byType {
			cells = append(cells, r.types(f.Name))
		}
		for i := range cells {
			cells[i] = strings.ReplaceAll(cells[i], "|", "\\|")
		}
		fmt.Fprintf(&r.out, "| %s |\n", strings.Join(cells, " | "))
	}
	r.out.WriteByte('\n')
}

func (r *reference) rank(f Field) int {
	if f.Name == r.definition.name() {
		return 0
	}
	return 1
}

// types lists the variants that have a field and notes if they require it.
func (r *reference) types(field string) string {
	var have, not []string
	required := ""
	for _, value := range r.definition.Values {
		f := r.definition.parent(r.definition.Variant[value]).Field(field)
		if f == nil {
			not = append(not, value)
			continue
		}
		have = append(have, value)
		if f.Required {
			required = " (required)"
		}
	}
	switch len(not) {
	case 0:
		return "all"
	case 1:
		return "all except " + not[0] + required
	}
	return strings.Join(have, ", ") + required
}

// value describes the values of a field. A struct gets a section, and value links to it.
func (r *reference) value(n *Node) string {
	switch {
	case n.Kind == List:
		return "list of " + r.value(n.Elem)
	case n.Kind == Struct && n.Rest != nil && len(n.Fields) == 0 && n.Rest.Kind != Any:
		return "mapping of names to " + r.value(n.Rest)
	case n.Kind == Struct && n.Definition != "":
		if !slices.ContainsFunc(r.queue, func(q *Node) bool { return q.Definition == n.Definition }) {
			r.queue = append(r.queue, n)
		}
		name := strings.TrimPrefix(n.Definition, "#")
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	case n.Kind == Struct && n == r.definition.parent(r.definition.Merged):
		r.queue = append(r.queue, n)
		return "[Spec](#spec)"
	case n.Kind == Struct && len(n.Fields) > 0:
		return n.describe()
	case n.Enum != nil:
		return "`" + strings.Join(n.Enum, "`, `") + "`"
	}
	return n.describe()
}
