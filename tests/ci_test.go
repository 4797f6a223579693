package tests

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/tests/internal/programs"
)

// repository is a git repository with one pool document, and a directory with atoll for the PATH.
type repository struct {
	t        *testing.T
	dir, bin string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	r := &repository{t: t, dir: t.TempDir(), bin: t.TempDir()}
	if _, err := programs.Link("atoll", r.bin); err != nil {
		t.Fatal(err)
	}
	r.pool("kube1", "Replica1")
	for _, script := range []string{
		"git init -q", "git add .",
		"git -c user.name=t -c user.email=t@example.org commit -qm one",
	} {
		if code, out := r.run(script); code != 0 {
			t.Fatalf("%s: %s", script, out)
		}
	}
	return r
}

func (r *repository) pool(node, kind string) {
	r.t.Helper()
	if err := os.MkdirAll(filepath.Join(r.dir, "pools"), 0o700); err != nil {
		r.t.Fatal(err)
	}
	text := "apiVersion: atoll.storage/v1alpha1\nkind: StoragePool\nmetadata: {name: p}\nspec: {type: " +
		"" + kind + ", bricks: [{node: " + node + ", path: /srv/p}]}\n"
	if err := os.WriteFile(filepath.Join(r.dir, "pools/p.yaml"), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// run runs a script as a CI system would, and returns its exit code and output.
func (r *repository) run(script string, env ...string) (int, string) {
	r.t.Helper()
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = r.dir
	cmd.Env = append(append(os.Environ(), "PATH="+r.bin+":"+os.Getenv("PATH")), env...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return 0, string(out)
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// vetAndPlan runs an example's two commands on a valid pool, on an invalid pool, and on a
// dangerous change.
func vetAndPlan(t *testing.T, vet, plan string, env ...string) {
	t.Helper()
	r := newRepository(t)
	for _, script := range []string{vet, plan} {
		if code, out := r.run(script, env...); code != 0 {
			t.Errorf("%s: exit code %d on a valid pool: %s", script, code, out)
		}
	}
	r.pool("kube2", "Replica1")
	if code, out := r.run(plan, env...); code != 2 || !strings.Contains(out, "brick-moved") {
		t.Errorf("%s: exit code %d on a dangerous change: %s", plan, code, out)
	}
	r.pool("kube1", "Replica9")
	if code, out := r.run(vet, env...); code != 1 || !strings.Contains(out, "Replica9") {
		t.Errorf("%s: exit code %d on an invalid pool: %s", vet, code, out)
	}
}

// TestGitHubAction runs the steps of the action.
func TestGitHubAction(t *testing.T) {
	var action struct {
		Runs struct{ Steps []struct{ Run string } }
	}
	read(t, "../examples/ci/github/action.yml", &action)
	steps := action.Runs.Steps
	if len(steps) != 2 {
		t.Fatalf("%d steps", len(steps))
	}
	vetAndPlan(t, steps[0].Run, steps[1].Run, "POOLS=pools", "BASE=HEAD")
}

// TestGitLabSnippet runs the job's script.
func TestGitLabSnippet(t *testing.T) {
	var file struct {
		Atoll struct{ Script []string }
	}
	read(t, "../examples/ci/gitlab/.gitlab-ci.yml", &file)
	if len(file.Atoll.Script) != 2 {
		t.Fatalf("script %q", file.Atoll.Script)
	}
	vetAndPlan(t, file.Atoll.Script[0], file.Atoll.Script[1], "CI_MERGE_REQUEST_DIFF_BASE_SHA=HEAD")
}

// TestPreCommitHook runs the hook's command.
func TestPreCommitHook(t *testing.T) {
	var file struct {
		Repos []struct {
			Hooks []struct {
				Entry string
				Args  []string
			}
		}
	}
	read(t, "../examples/ci/pre-commit/.pre-commit-config.yaml", &file)
	hook := file.Repos[0].Hooks[0]
	command := hook.Entry + " " + strings.Join(hook.Args, " ")
	r := newRepository(t)
	if code, out := r.run(command); code != 0 {
		t.Errorf("exit code %d: %s", code, out)
	}
	r.pool("kube1", "Replica9")
	if code, out := r.run(command); code != 1 {
		t.Errorf("exit code %d: %s", code, out)
	}
}
