// Package layout holds the direction of imports: data flows one way through the
// project, from schema over render to what applies and serves it.
package layout

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/atoll-storage/atoll/"

// mayImport lists, for each part of the project, the parts that it may reach,
// directly or through others.
var mayImport = map[string][]string{
	"schema":     {"schema"},
	"render":     {"render", "schema"},
	"brick":      {"brick", "internal"},
	"csi":        {"csi", "schema", "internal"},
	"reconciler": {"reconciler", "render", "schema", "internal"},
	"internal":   {"internal"},
}

func TestImportDirection(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps ","}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		pkg, deps, _ := strings.Cut(strings.TrimSpace(line), " ")
		part := partOf(pkg)
		allowed, held := mayImport[part]
		if !held {
			continue
		}
		for dep := range strings.SplitSeq(deps, ",") {
			if to := partOf(dep); to != "" && !contains(allowed, to) {
				t.Errorf("%s reaches %s, but %s may reach only %s", pkg, dep, part, strings.Join(allowed, ", "))
			}
		}
	}
}

// partOf gives the top-level folder of a package of this module, "" for others.
func partOf(pkg string) string {
	rest, ours := strings.CutPrefix(pkg, module)
	if !ours {
		return ""
	}
	part, _, _ := strings.Cut(rest, "/")
	return part
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
