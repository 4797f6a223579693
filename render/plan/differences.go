package plan

import (
	"maps"
	"reflect"
	"slices"
)

// Differences lists the paths at which two trees differ, sorted.
func Differences(path string, a, b any) []string {
	if reflect.DeepEqual(a, b) {
		return nil
	}
	x, isMap := a.(map[string]any)
	y, both := b.(map[string]any)
	if !isMap || !both {
		return []string{path}
	}
	keys := slices.Collect(maps.Keys(x))
	for k := range y {
		if _, known := x[k]; !known {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var all []string
	for _, k := range keys {
		below := k
		if path != "" {
			below = path + "." + k
		}
		all = append(all, Differences(below, x[k], y[k])...)
	}
	return all
}
