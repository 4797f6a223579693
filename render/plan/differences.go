package plan

import (
	"maps"
	"reflect"
	"slices"
)

// Difference is a path at which two trees differ, and both values; nil means no value.
type Difference struct {
	Path    string `json:"path"`
	Is      any    `json:"is,omitempty"`
	Becomes any    `json:"becomes,omitempty"`
}

// Differences lists the differences of two trees, sorted by path.
func Differences(path string, a, b any) []Difference {
	if reflect.DeepEqual(a, b) {
		return nil
	}
	x, isMap := a.(map[string]any)
	y, both := b.(map[string]any)
	if !isMap || !both {
		return []Difference{{path, a, b}}
	}
	keys := slices.Collect(maps.Keys(x))
	for k := range y {
		if _, known := x[k]; !known {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	var all []Difference
	for _, k := range keys {
		below := k
		if path != "" {
			below = path + "." + k
		}
		all = append(all, Differences(below, x[k], y[k])...)
	}
	return all
}

// paths returns the paths of differences.
func paths(all []Difference) []string {
	var list []string
	for _, d := range all {
		list = append(list, d.Path)
	}
	return list
}
