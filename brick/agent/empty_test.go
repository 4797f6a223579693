package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestEmptyBrick: a brick with directories that volumes have left behind is empty; one with
// a volume or a file is not.
func TestEmptyBrick(t *testing.T) {
	for _, test := range []struct {
		folder, file string
		empty        bool
	}{
		{"", "", true},
		{"subvol/ab/cd", "", true},
		{"subvol/ab/cd/pvc-1", "", false},
		{".atoll/trash", "", true},
		{"blocks/volumes/ab/cd", "", true},
		{"blocks/trash", "", true},
		{"blocks/volumes/ab/cd", "pvc-1", false},
		{"blocks/archive", "pvc-1.20260101", false},
		{"", "file", false},
	} {
		_, s := newServer(t)
		dir := filepath.Join(s.Directory, test.folder)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if test.file != "" {
			if err := os.WriteFile(filepath.Join(dir, test.file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.empty(t.Context()); got != test.empty {
			t.Errorf("with %s/%s: empty %t", test.folder, test.file, got)
		}
	}
}

// TestEmptyIsNotKept: a brick that was empty a moment ago may not be any more. A pool is deleted
// when all of its bricks say that they are empty.
func TestEmptyIsNotKept(t *testing.T) {
	_, s := newServer(t)
	s.probes = newProbes(time.Hour, time.Hour, 0)
	if !s.isEmpty(t.Context()) {
		t.Error("a new brick is not empty")
	}
	file := filepath.Join(s.Directory, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s.isEmpty(t.Context()) {
		t.Error("a brick with a file is empty")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if s.isEmpty(t.Context()) {
		t.Error("that the brick has files is not kept")
	}
}
