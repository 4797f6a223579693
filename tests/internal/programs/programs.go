// Package programs builds the project's programs for tests.
package programs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// names are the programs that tests start.
var names = []string{"atoll", "atoll-brick", "atoll-csi", "atoll-reconciler"}

// builtVariable has the directory of built programs: a process that a test starts, or that
// has no network, builds none.
const builtVariable = "ATOLL_TEST_PROGRAMS"

// Dir builds all programs, once per process, and returns their directory.
var Dir = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(builtVariable); dir != "" {
		return dir, nil
	}
	dir, err := build()
	if err != nil {
		return "", err
	}
	return dir, os.Setenv(builtVariable, dir)
})

// build builds into one directory for all tests of the project, so that programs are linked
// again only if they have changed. Test processes take turns.
func build() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/atoll-storage/atoll").Output()
	if err != nil {
		return "", fmt.Errorf("find the project: %w", err)
	}
	project := strings.TrimSpace(string(root))
	dir := filepath.Join(project, ".cache", "test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	turn, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer turn.Close()
	if err := unix.Flock(int(turn.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", turn.Name(), err)
	}
	args := []string{"build", "-C", project, "-o", dir + "/"}
	for _, name := range names {
		args = append(args, "./cmd/"+name)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", strings.Join(names, ", "), err, out)
	}
	return dir, nil
}

// Link puts a program into a directory and returns its path. A running program of that name
// stays as it is.
func Link(name, dir string) (string, error) {
	built, err := Dir()
	if err != nil {
		return "", err
	}
	from, to := filepath.Join(built, name), filepath.Join(dir, name)
	if same(from, to) {
		return to, nil
	}
	fresh := to + ".new"
	if err := os.Link(from, fresh); err != nil { // on another file system
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(fresh, text, 0o755)
		}
		if err != nil {
			return "", fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return to, os.Rename(fresh, to)
}

// same reports whether two paths are links to one file: renaming one to the other would do
// nothing.
func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
