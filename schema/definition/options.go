package definition

import (
	"slices"
	"strings"
	"sync"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/parser"

	"github.com/atoll-storage/atoll/schema"
)

// OptionNames returns the Gluster options that a pool may set, sorted. They are
// the fields of #Options in pool.cue.
var OptionNames = sync.OnceValue(func() []string {
	file, err := parser.ParseFile("pool.cue", schema.PoolCUE)
	if err != nil {
		panic("embedded pool.cue does not parse: " + err.Error())
	}
	var names []string
	for _, decl := range file.Decls {
		f, ok := decl.(*ast.Field)
		if !ok {
			continue
		}
		if name, _, err := ast.LabelName(f.Label); err != nil || name != "#Options" {
			continue
		}
		if options, ok := f.Value.(*ast.StructLit); ok {
			names = fieldNames(options)
		}
	}
	slices.Sort(names)
	return names
})

func fieldNames(s *ast.StructLit) []string {
	var names []string
	for _, decl := range s.Elts {
		if f, ok := decl.(*ast.Field); ok {
			if name, _, err := ast.LabelName(f.Label); err == nil {
				names = append(names, strings.TrimSpace(name))
			}
		}
	}
	return names
}

// HasOption reports whether a pool may set a Gluster option.
func HasOption(name string) bool {
	_, found := slices.BinarySearch(OptionNames(), name)
	return found
}
