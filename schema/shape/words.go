package shape

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// words tells what a node takes.
func (n *Node) words() string {
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
		return "a list of " + n.Elem.words()
	case n.Kind == Struct && n.requiredWords() != "":
		return "a mapping with " + n.requiredWords()
	}
	return map[Kind]string{
		Any: "anything", String: "a string", Int: "a whole number", Bool: "true or false", Struct: "a mapping",
	}[n.Kind]
}

func (n *Node) requiredWords() string {
	var names []string
	for _, f := range n.Fields {
		if f.Required {
			names = append(names, f.Name)
		}
	}
	return strings.Join(names, ", ")
}

// list joins words: a, b or c.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// both joins words: a, b and c.
func both(words []string) string {
	return strings.Replace(list(words), " or ", " and ", 1)
}

// quote shows a value of the input, in short.
func quote(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) > most {
		s = string([]rune(s)[:most]) + "…"
	}
	return strconv.Quote(s)
}

// kindOf tells what a YAML node is by its tag. Timestamps are strings, as for
// Kubernetes; null is none of the kinds.
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

// wrongKind reports a value of another kind, in the words that help: most such
// values only lack or have too many quotes.
func (c *checker) wrongKind(n *Node, at *yaml.Node, found Kind) {
	scalar := at.Kind == yaml.ScalarNode
	switch tag := at.ShortTag(); {
	case scalar && tag == "!!null":
		c.say(at, "kind", "the value is empty", n.words())
	case scalar && strings.HasPrefix(at.Tag, "!") && !strings.HasPrefix(at.Tag, "!!"):
		c.say(at, "kind", fmt.Sprintf("the tag %s means nothing here", at.Tag), n.words())
	case scalar && n.Kind == String && !n.offers(at.Value) && tag != "!!binary" && found != "":
		c.say(at, "value", at.Value+" is not allowed", n.words())
	case scalar && n.Kind == String && (found == Int || found == Bool || tag == "!!float"):
		c.say(at, "kind", fmt.Sprintf("%s without quotes is not a string", at.Value), fmt.Sprintf("%q, in quotes", at.Value))
	case n.Kind == Int && found == String:
		c.say(at, "kind", fmt.Sprintf("%s is not a number", quote(at.Value)), n.words()+", without quotes")
	case n.Kind == Bool && found == String:
		c.say(at, "kind", fmt.Sprintf("%s is neither true nor false", quote(at.Value)), "true or false, without quotes")
	case scalar:
		c.say(at, "kind", fmt.Sprintf("%s is not %s", quote(at.Value), article(n.Kind)), n.words())
	default:
		c.say(at, "kind", fmt.Sprintf("this is %s, not %s", article(found), article(n.Kind)), n.words())
	}
}

// offers reports whether the value would do if only it were a string.
func (n *Node) offers(value string) bool {
	return (n.Enum == nil || slices.Contains(n.Enum, value)) && n.takes(value)
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

// isSwitch reports whether YAML 1.1, and so Kubernetes, reads a bare word as a
// boolean, while YAML 1.2 reads it as text.
func isSwitch(s string) bool {
	switch s {
	case "y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF":
		return true
	}
	return false
}

// nearest gives the word that s was probably meant to be, "" when none is near.
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

// distance counts the edits from a to b (Levenshtein), or more than limit.
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
