package plan

import (
	"fmt"
	"strings"
)

// String formats the plan for a terminal.
func (p *Plan) String() string {
	var b strings.Builder
	counts, dangers := map[Verb]int{}, 0
	for _, c := range p.Pools {
		fmt.Fprintf(&b, "pool %s is %s\n", c.Name, c.Verb)
		for _, o := range c.Objects {
			counts[o.Verb]++
			fmt.Fprintf(&b, "  %s %s %s\n", map[Verb]string{Added: "+", Changed: "~", Removed: "-"}[o.Verb], o.Kind,
				o.Name)
			for _, f := range o.Fields {
				fmt.Fprintf(&b, "      %s\n", f)
			}
		}
		for _, n := range c.Notes {
			fmt.Fprintf(&b, "  note: %s\n", n)
		}
		for _, d := range c.Dangers {
			dangers++
			fmt.Fprintf(&b, "  DANGER %s: %s\n      instead: %s\n", d.Code, d.Message, d.Instead)
		}
	}
	if len(p.Pools) == 0 {
		return "nothing changes\n"
	}
	fmt.Fprintf(&b, "objects: %d added, %d changed, %d removed; %d dangerous changes\n", counts[Added], counts[Changed],
		counts[Removed], dangers)
	return b.String()
}
