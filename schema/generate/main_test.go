package main

import (
	"bytes"
	"os"
	"testing"
)

// TestGenerated holds that what is made from pool.cue was made from this one.
func TestGenerated(t *testing.T) {
	t.Chdir("..")
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what pool.cue says (%v): run make generate", name, err)
		}
	}
}
