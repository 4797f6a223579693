package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository is a bare git repository, with a clone for making commits.
type repository struct {
	t          *testing.T
	bare, work string
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	dir := t.TempDir()
	r := &repository{t: t, bare: filepath.Join(dir, "storage.git"), work: filepath.Join(dir, "work")}
	r.run(dir, "init", "-q", "--bare", "-b", "main", r.bare)
	r.run(dir, "clone", "-q", r.bare, r.work)
	r.run(r.work, "checkout", "-q", "-b", "main")
	return r
}

func (r *repository) run(dir string, args ...string) string {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=ops", "GIT_AUTHOR_EMAIL=ops@example.org", "GIT_COMMITTER_NAME=ops",
		"GIT_COMMITTER_EMAIL=ops@example.org", "GIT_CONFIG_GLOBAL=/dev/null")
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, problem.String())
	}
	return strings.TrimSpace(out.String())
}

// commit writes files, removes those without content, pushes, and returns the commit.
func (r *repository) commit(message string, files map[string]string) string {
	r.t.Helper()
	for name, text := range files {
		path := filepath.Join(r.work, name)
		if text == "" {
			r.run(r.work, "rm", "-q", name)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.run(r.work, "add", "-A")
	r.run(r.work, "commit", "-q", "-m", message)
	r.run(r.work, "push", "-q", "origin", "main")
	return r.run(r.work, "rev-parse", "HEAD")
}

// checkout makes a fresh clone, as CI does.
func (r *repository) checkout() string {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "checkout")
	r.run(r.work, "clone", "-q", r.bare, dir)
	return dir
}

// archive packs a commit as Flux' source-controller does.
func (r *repository) archive(commit string) []byte {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "artifact.tar.gz")
	r.run(r.work, "archive", "--format=tar.gz", "-o", file, commit)
	text, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}
