package main

import (
	"os"
	"testing"

	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

func TestMain(m *testing.M) {
	podrun.Child()
	os.Exit(m.Run())
}

// TestDemo runs the demo as 'make demo' does.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs pods as processes; not with -short")
	}
	if err := checkRequirements(); err != nil {
		t.Skip(err)
	}
	t.Chdir("../..")
	if err := run(); err != nil {
		t.Error(err)
	}
}
