package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// suite is a set of tests with a log and a closing line, or a make target.
type suite struct {
	name string
	// target has the make targets of a suite that is not run by 'go test'.
	target string
	// module is the directory of the suite's module, "" for the root module.
	module string
	// packages are patterns of packages; rest means all packages that no other suite names.
	packages []string
	args     []string // for 'go test'
	// after lists what must have ended before this suite starts, whatever came of it.
	after []string
	// env has variables of the environment besides this process's.
	env []string
	// root suites are skipped by other users.
	root bool
	// extra suites are no part of 'make test'.
	extra bool
}

const rest = "rest"

// suites start in this order, as far as 'after' allows: first what compiles for the others,
// then the long suites, which mostly wait, beside the short ones, which mostly compute.
var suites = []suite{
	{name: "vet", target: "lint-vet"},
	{name: "programs", target: "programs"},
	{name: "block", packages: []string{"./tests/block"}, args: []string{"-timeout=40m"}, after: []string{"vet"}},
	{name: "images", target: "images", after: []string{"programs"}, root: true},
	{
		name: "cluster", packages: []string{"./tests/e2e"}, args: []string{"-timeout=30m"},
		after: []string{"vet", "images"},
	},
	{name: "fast", packages: []string{rest}, after: []string{"vet"}},
	{
		name:     "gluster",
		packages: []string{"./tests/gluster", "./tests/pods", "./tests/model", "./tests/csi", "./tests/demo"},
		args:     []string{"-p=4", "-timeout=40m"}, after: []string{"vet"},
	},
	{
		name: "quota", packages: []string{"./tests/quota", "./tests/internal/vm"}, args: []string{"-timeout=40m"},
		after: []string{"vet"},
	},
	{
		name: "csi", module: "tests/sanity", packages: []string{"./..."}, args: []string{"-timeout=40m"},
		after: []string{"vet"},
	},
	{
		name: "apiserver", module: "tests/apiserver", packages: []string{"."},
		args: []string{"-timeout=40m", "-parallel=3"}, after: []string{"vet", "programs"},
		env: []string{"ATOLL_KUBE_APISERVER=" + absolute(cacheDir+"/bin/kube-apiserver")},
	},
	{
		name: "bench", module: "tests/bench", packages: []string{"."},
		args: []string{"-timeout=20m", "-bench=.", "-benchtime=1x"}, after: []string{"vet"},
	},
	{name: "lint", target: "lint-format lint-static", after: []string{"vet"}},

	{
		name: "e2e", packages: []string{"./tests/e2e"}, extra: true,
		args: []string{"-timeout=60m", "-full", "-report=" + absolute("docs")},
	},
	{
		name: "e2e-k8s", packages: []string{"./tests/e2e"}, extra: true,
		args: []string{"-timeout=170m", "-run=TestKubernetesSuite", "-suite", "-report=" + absolute("docs")},
	},
}

// cacheDir has logs, and what make targets build.
const cacheDir = ".cache"

// absolute is the absolute path of a file of the project: tests run in the directories of their
// packages.
func absolute(name string) string {
	path, err := filepath.Abs(name)
	if err != nil {
		panic(err) // there is no working directory
	}
	return path
}

// command is what runs a suite.
func (s suite) command(more []string) ([]string, error) {
	if s.target != "" {
		return append([]string{"make", "--no-print-directory"}, strings.Fields(s.target)...), nil
	}
	packages := s.packages
	if slices.Contains(packages, rest) {
		all, err := remaining()
		if err != nil {
			return nil, err
		}
		packages = all
	}
	args := append([]string{goTool(), "test", "-json", "-count=1"}, packages...)
	return append(append(args, s.args...), more...), nil
}

func goTool() string {
	if name := os.Getenv("GO"); name != "" {
		return name
	}
	return "go"
}

// remaining lists the packages of the root module that no other suite names.
func remaining() ([]string, error) {
	out, err := exec.Command(goTool(), "list", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(pkg string) bool {
		return slices.ContainsFunc(suites, func(s suite) bool {
			return s.module == "" && slices.ContainsFunc(s.packages, func(p string) bool {
				return strings.HasSuffix(pkg, strings.TrimPrefix(p, "."))
			})
		})
	}), nil
}
