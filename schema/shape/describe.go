package shape

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// describe describes the values that a node accepts.
func (n *Node) describe() string {
	switch {
	case n.Allowed != "":
		return n.Allowed
	case n.Enum != nil:
		return list(n.Enum)
	case n.OneOf != nil:
		return n.forms()
	case n.Kind == Int && n.Min != nil && n.Max != nil:
		return fmt.Sprintf("a whole number from %d to %d", *n.Min, *n.Max)
	case n.Kind == Int && n.Min != nil:
		return fmt.Sprintf("a whole number, at least %d", *n.Min)
	case n.Kind == List:
		return "a list of " + n.Elem.describe()
	case n.Kind == Struct && n.requiredNames() != "":
		return "a mapping with " + n.requiredNames()
	}
	return map[Kind]string{
		Any: "anything", String: "a string", Int: "a whole number", Bool: "true or false", Struct: "a mapping",
	}[n.Kind]
}

func (n *Node) requiredNames() string {
	var names []string
	for _, f := range n.Fields {
		if f.Required {
			names = append(names, f.Name)
		}
	}
	return strings.Join(names, ", ")
}

// list joins words as in "a, b or c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// both joins words as in "a, b and c".
func both(words []string) string {
	return strings.Replace(list(words), " or ", " and ", 1)
}

// quote quotes a value of the input, shortened.
func quote(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strconv.Quote(s)
}

// kindOf returns the kind of a YAML node by its tag. Timestamps are strings, as in
// Kubernetes. null has no kind.
func kindOf(n *yaml.Node) Kind {
	switch n.Kind {
	case yaml.MappingNode:
		return Struct
	case yaml.SequenceNode:
		return List
	}
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return String
	case "!!int":
		return Int
	case "!!bool":
		return Bool
	}
	return ""
}

// wrongKind reports a value of another kind. Most of them only lack quotes, or have quotes
// that they should not, and the message says so.
func (c *checker) wrongKind(n *Node, at *yaml.Node, found Kind) {
	scalar := at.Kind == yaml.ScalarNode
	switch tag := at.ShortTag(); {
	case scalar && tag == "!!null":
		c.report(at, "kind", "the value is empty", n.describe())
	case scalar && strings.HasPrefix(at.Tag, "!") && !strings.HasPrefix(at.Tag, "!!"):
		c.report(at, "kind", fmt.Sprintf("the tag %s is not supported", at.Tag), n.describe())
	case scalar && n.Kind == String && !n.acceptsQuoted(at.Value) && tag != "!!binary" && found != "":
		c.report(at, "value", at.Value+" is not allowed", n.describe())
	case scalar && n.Kind == String && (found == Int || found == Bool || tag == "!!float"):
		parsed := "a number"
		if found == Bool {
			parsed = "a boolean"
		}
		c.report(at, "kind", fmt.Sprintf("unquoted %s parses as %s", at.Value, parsed),
			fmt.Sprintf("quote it: %q", at.Value))
	case n.Kind == Int && found == String:
		c.report(at, "kind", fmt.Sprintf("%s is not a number", quote(at.Value)), n.describe()+", unquoted")
	case n.Kind == Bool && found == String:
		c.report(at, "kind", fmt.Sprintf("%s is neither true nor false", quote(at.Value)), "true or false, unquoted")
	case scalar:
		c.report(at, "kind", fmt.Sprintf("%s is not %s", quote(at.Value), article(n.Kind)), n.describe())
	default:
		c.report(at, "kind", fmt.Sprintf("this is %s, not %s", article(found), article(n.Kind)), n.describe())
	}
}

// acceptsQuoted reports whether the value would be accepted as a string.
func (n *Node) acceptsQuoted(value string) bool {
	return (n.Enum == nil || slices.Contains(n.Enum, value)) && n.accepts(value)
}

func article(k Kind) string {
	switch k {
	case Struct:
		return "a mapping"
	case Int:
		return "a whole number"
	case Bool:
		return "true or false"
	}
	return "a " + string(k)
}

// isYAML11Boolean reports whether YAML 1.1, which Kubernetes reads, parses an unquoted
// word as a boolean, while YAML 1.2 parses it as a string.
func isYAML11Boolean(s string) bool {
	switch s {
	case "y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF":
		return true
	}
	return false
}

// nearest returns the word that s is probably a misspelling of, "" if there is none.
func nearest(s string, words []string) string {
	best, least := "", 1+len(s)/4
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return w
		}
		if d := distance(strings.ToLower(s), strings.ToLower(w), least); d <= least && (best == "" || d < least) {
			best, least = w, d
		}
	}
	return best
}

// distance counts the edits from a to b (Levenshtein). A result above limit is a lower bound.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
