package explain

import (
	"fmt"
	"strings"
)

// String formats the explanation for a terminal.
func (e Explanation) String() string {
	var b strings.Builder
	line := func(name, text string) { fmt.Fprintf(&b, "  %-10s %s\n", name, text) }
	fmt.Fprintf(&b, "%s (%s, namespace %s)\n", e.Pool, e.Type, e.Namespace)
	if e.External != "" {
		line("external", e.External)
	}
	for i, s := range e.Sets {
		line(fmt.Sprintf("set %d", i), strings.Join(s.Bricks, ", "))
	}
	if e.Tie != "" {
		line("tiebreaker", e.Tie)
	}
	line("tolerates", e.Tolerates)
	if e.Usable != nil {
		line("usable", fmt.Sprintf("%d of %d bricks' capacity (%d %%)", e.Usable.Data, e.Usable.Raw,
			100*e.Usable.Data/e.Usable.Raw))
	}
	for i, l := range e.Layouts {
		line([]string{"volumes", ""}[min(i, 1)], l)
	}
	line("deletion", e.Reclaim)
	line("classes", strings.Join(e.Classes, ", "))
	for _, n := range e.Notes {
		line("note", n)
	}
	return b.String()
}
