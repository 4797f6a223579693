package layout

import (
	"slices"
	"strings"
	"testing"
)

// mayNotLink maps paths in the module to the paths of libraries that the packages there may not
// link. Every program is listed: each library made one larger by megabytes without doing anything
// in it. The node plugin is privileged and runs on every node, a brick program in every brick pod:
// neither needs the libraries that read and check documents.
var mayNotLink = map[string][]string{
	"cmd/atoll":            testLibraries,
	"cmd/atoll-reconciler": slices.Concat(testLibraries, []string{"google.golang.org/grpc"}),
	"cmd/atoll-csi": slices.Concat(testLibraries, documentLibraries,
		[]string{"sigs.k8s.io/controller-runtime"}),
	"cmd/atoll-brick": slices.Concat(testLibraries, documentLibraries,
		[]string{"google.golang.org/grpc", "k8s.io", "sigs.k8s.io"}),
	"csi":      documentLibraries,
	"brick":    documentLibraries,
	"internal": documentLibraries,
}

// testLibraries are the packages that no program may contain: of tests, and of other programs.
// Packages of fluxcd/pkg link them: runtime/conditions, runtime/patch and runtime/controller
// gomega, runtime/client and ssa kubectl.
var testLibraries = []string{
	"testing", "net/http/httptest", "github.com/onsi", "github.com/stretchr",
	"k8s.io/kubectl", "k8s.io/cli-runtime", "k8s.io/kubernetes", "k8s.io/apiserver",
}

// documentLibraries read and check documents.
var documentLibraries = []string{
	"cuelang.org", "sigs.k8s.io/kustomize",
	module + "schema/loader", module + "schema/convert", module + "schema/definition", module + "schema/shape",
}

func TestLinkedLibraries(t *testing.T) {
	all := dependencies(t)
	for from, libraries := range mayNotLink {
		found := false
		for pkg, deps := range all {
			if !within(pkg, module+from) {
				continue
			}
			found = true
			for _, dep := range deps {
				if slices.ContainsFunc(libraries, func(library string) bool { return within(dep, library) }) {
					t.Errorf("%s links %s; find what imports it with 'go mod why %s'", pkg, dep, dep)
				}
			}
		}
		if !found {
			t.Errorf("no package has the path %s", from)
		}
	}
	for pkg := range all {
		if program := strings.TrimPrefix(pkg, module); partOf(pkg) == "cmd" && mayNotLink[program] == nil {
			t.Errorf("list in mayNotLink what %s may not link", program)
		}
	}
}
