package layout

import (
	"os/exec"
	"path"
	"strings"
	"testing"
)

// mustNotLink lists, for each program, the packages that it must not contain, by the start of
// their import paths. Each made a program larger by megabytes without doing anything in it.
var mustNotLink = map[string][]string{
	"atoll":            nil,
	"atoll-brick":      {"cuelang.org/", "google.golang.org/grpc", "k8s.io/", "sigs.k8s.io/"},
	"atoll-csi":        {"cuelang.org/", "sigs.k8s.io/controller-runtime", "sigs.k8s.io/kustomize/"},
	"atoll-reconciler": {"google.golang.org/grpc"},
}

// noProgramLinks are the packages that no program may contain: of tests, and of other programs.
// Packages of fluxcd/pkg link them: runtime/conditions, runtime/patch and runtime/controller
// gomega, runtime/client and ssa kubectl.
var noProgramLinks = []string{
	"testing", "net/http/httptest", "github.com/onsi/", "github.com/stretchr/",
	"k8s.io/kubectl", "k8s.io/cli-runtime", "k8s.io/kubernetes", "k8s.io/apiserver",
}

func TestLinked(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps ","}}`, module+"cmd/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		program, deps, _ := strings.Cut(strings.TrimSpace(line), " ")
		program = path.Base(program)
		more, listed := mustNotLink[program]
		if !listed {
			t.Errorf("list in mustNotLink what %s must not contain", program)
		}
		for dep := range strings.SplitSeq(deps, ",") {
			for _, not := range append(more, noProgramLinks...) {
				if dep == not || strings.HasPrefix(dep, strings.TrimSuffix(not, "/")+"/") {
					t.Errorf("%s contains %s; find what imports it with 'go mod why %s'", program, dep, dep)
				}
			}
		}
	}
}
