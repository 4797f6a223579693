package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// makeFiles creates files in a directory of the brick.
func makeFiles(t *testing.T, dir string, n int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWalk: a walk visits what fs.WalkDir does, in deep trees and large directories too, and
// leaves out what it is told to.
func TestWalk(t *testing.T) {
	dir := t.TempDir()
	makeFiles(t, filepath.Join(dir, "a"), 3*walkEntries)
	deep := filepath.Join(dir, strings.Repeat("d/", 3*walkOpen))
	makeFiles(t, deep, 3)
	makeFiles(t, filepath.Join(dir, "d/d/d/other"), 3)
	makeFiles(t, filepath.Join(dir, "skipped/below"), 3)
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	descriptors := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before, most := descriptors(), 0
	var got, want []string
	collect := func(all *[]string) fs.WalkDirFunc {
		return func(path string, _ fs.DirEntry, err error) error {
			if path == "skipped" {
				return fs.SkipDir
			}
			if all == &got {
				most = max(most, descriptors()-before)
			}
			if path != "." {
				*all = append(*all, path)
			}
			return err
		}
	}
	if err := errors.Join(walk(root, ".", collect(&got)), fs.WalkDir(root.FS(), ".", collect(&want))); err != nil {
		t.Fatal(err)
	}
	if most > walkOpen+3 { // the root itself, and what opening a path needs
		t.Errorf("the walk has %d directories open", most)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) || len(want) < 4*walkEntries-walkEntries+3*walkOpen {
		t.Errorf("%d visited, want %d", len(got), len(want))
	}
	end := errors.New("end")
	visited := 0
	if err := walk(root, ".", func(string, fs.DirEntry, error) error { visited++; return end }); !errors.Is(err, end) ||
		visited != 1 {
		t.Errorf("%d visited after the end, %v", visited, err)
	}
	if err := walk(root, "missing", func(_ string, _ fs.DirEntry, err error) error { return err }); !errors.Is(err,
		fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

// TestMemoryOfWalk: no directory is held in memory.
func TestMemoryOfWalk(t *testing.T) {
	dir := inMemory(t)
	const files = 20_000
	makeFiles(t, filepath.Join(dir, "many"), files)
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, visited := heap(), 0
	err = walk(root, ".", func(string, fs.DirEntry, error) error {
		if visited++; visited == files/2 {
			if now := heap(); now > before+(512<<10) {
				t.Errorf("the walk holds %d KiB in the middle of %d files", (now-before)>>10, files)
			}
		}
		return nil
	})
	if err != nil || visited != files+1 {
		t.Errorf("%d visited, %v", visited, err)
	}
}

// TestEmptyIsUnknown: a brick is not reported as empty before the walk has ended.
func TestEmptyIsUnknown(t *testing.T) {
	_, s := newServer(t)
	if !s.isEmpty(t.Context()) {
		t.Error("an empty brick is not empty")
	}
	s.probes.empty.running = make(chan struct{}) // a walk is running
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if s.isEmpty(ended) {
		t.Error("the brick is empty before the walk has ended")
	}
}

// TestEmptyReadsLittle: the first files of a large directory are enough to know that a brick is
// not empty.
func TestEmptyReadsLittle(t *testing.T) {
	_, s := newServer(t)
	s.Directory = inMemory(t)
	makeFiles(t, s.Directory, 20_000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	empty := s.empty(t.Context())
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; empty || n > 512<<10 {
		t.Errorf("empty: %t, %d KiB were allocated", empty, n>>10)
	}
}
