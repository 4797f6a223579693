package definition

import (
	"slices"
	"sync"
)

// OptionNames returns the Gluster options that a pool may set, sorted. They are the fields
// of #Options in pool.cue.
var OptionNames = sync.OnceValue(func() []string {
	var names []string
	for _, f := range Pool().Merged.Field("spec").Value.Field("options").Value.Fields {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return names
})

// HasOption reports whether a pool may set a Gluster option.
func HasOption(name string) bool {
	_, found := slices.BinarySearch(OptionNames(), name)
	return found
}
