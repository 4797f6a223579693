// Package layout checks the direction of imports: data flows one way through the
// project, from schema through render to the parts that apply and serve it, and within
// the CSI driver from pools up to the server. It also checks which libraries a part of
// the project may not link.
package layout

import (
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/atoll-storage/atoll/"

// mayImport lists, for each part of the project, the parts that it may import,
// directly or through others.
var mayImport = map[string][]string{
	"schema":     {"schema"},
	"render":     {"render", "schema"},
	"brick":      {"brick", "schema", "internal"},
	"csi":        {"csi", "schema", "internal"},
	"reconciler": {"reconciler", "render", "schema", "internal"},
	"internal":   {"internal", "schema"},
}

func TestImportDirection(t *testing.T) {
	for pkg, deps := range dependencies(t) {
		part := partOf(pkg)
		allowed, limited := mayImport[part]
		if !limited {
			continue
		}
		for _, dep := range deps {
			if to := partOf(dep); to != "" && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s, but %s may import only %s", pkg, dep, part, strings.Join(allowed, ", "))
			}
		}
	}
}

// csiLayers lists the packages below csi, from the bottom up (docs/decisions/0019). A
// package may import packages of lower layers only.
var csiLayers = [][]string{
	{"catalog", "events", "kubelet"},
	{"agents", "backend", "catalog/follow", "evict", "retire"},
	{"blockdev", "copies", "quota", "topology"},
	{"mounts", "pool"},
	{"rpc"},
	{"internal/testbed"}, // for the tests of the packages above
	{"controller/capacity", "controller/params", "node/mountpoint"},
	{"controller/background", "node/repair"},
	{"controller", "node"},
	{"driver"},
}

func TestLayersOfTheCSIDriver(t *testing.T) {
	layer := map[string]int{}
	for i, names := range csiLayers {
		for _, name := range names {
			layer[module+"csi/"+name] = i
		}
	}
	all := dependencies(t)
	for pkg, deps := range all {
		if partOf(pkg) != "csi" {
			continue
		}
		current, listed := layer[pkg]
		if !listed {
			t.Errorf("%s has no layer; add it to csiLayers", pkg)
			continue
		}
		for _, dep := range deps {
			if other, listed := layer[dep]; listed && other >= current {
				t.Errorf("%s imports %s, which is not in a lower layer", pkg, dep)
			}
		}
	}
	for pkg := range layer {
		if all[pkg] == nil {
			t.Errorf("csiLayers lists %s, which does not exist", pkg)
		}
	}
}

// dependencies returns the packages of the module, each with all its direct and
// indirect imports.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	all, err := listDependencies()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return all
}

// listDependencies asks the go command once for all tests.
var listDependencies = sync.OnceValues(func() (map[string][]string, error) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps ","}}`, module+"...").Output()
	all := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		pkg, deps, _ := strings.Cut(strings.TrimSpace(line), " ")
		all[pkg] = strings.Split(deps, ",")
	}
	return all, err
})

// within reports whether a package is at a path or below it.
func within(pkg, path string) bool {
	rest, found := strings.CutPrefix(pkg, path)
	return found && (rest == "" || rest[0] == '/')
}

// partOf returns the top-level directory of a package of this module, "" for other
// packages.
func partOf(pkg string) string {
	rest, inModule := strings.CutPrefix(pkg, module)
	if !inModule {
		return ""
	}
	part, _, _ := strings.Cut(rest, "/")
	return part
}
