package loader

import (
	"fmt"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// clientOptions checks the options of an External pool against those of its client.
func (c *checker) clientOptions(s *schema.Spec) {
	if s.External == nil {
		return
	}
	for i, o := range s.External.Options {
		path := fmt.Sprintf("spec.external.options[%d]", i)
		name, value, _ := strings.Cut(o, "=")
		valued, known := schema.ClientOptions[name]
		switch {
		case strings.ContainsAny(o, ", \t\n\x00") || o == "": // reported by the schema
		case !known:
			c.fail(path, "client-option", fmt.Sprintf("the client does not accept the option %q", name),
				schema.ClientOptionNames())
		case valued && value == "":
			c.fail(path, "client-option", fmt.Sprintf("the option %q needs a value", name), name+"=…")
		case !valued && o != name:
			c.fail(path, "client-option", fmt.Sprintf("the option %q accepts no value", name), name+" alone")
		}
	}
}
