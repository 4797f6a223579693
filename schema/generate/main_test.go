package main

import (
	"bytes"
	"os"
	"testing"
)

// TestGenerated checks that the generated files match pool.cue.
func TestGenerated(t *testing.T) {
	t.Chdir("..")
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s does not match pool.cue (%v): run make generate", name, err)
		}
	}
}
