package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestMessageOfContainer: the reason of an error is left for the status of the pod, where there is
// one.
func TestMessageOfContainer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "termination-log")
	leaveMessage(file, errors.New("outside a container"))
	if _, err := os.Stat(file); err == nil {
		t.Error("the file was made")
	}
	if err := os.WriteFile(file, []byte("of an earlier process, and longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	leaveMessage(file, errors.New("the brick is missing"))
	if text, err := os.ReadFile(file); err != nil || string(text) != "the brick is missing" {
		t.Errorf("%q, %v", text, err)
	}
}
