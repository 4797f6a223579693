package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestExamplesByCUE checks with CUE's command that the published schema accepts every
// example.
func TestExamplesByCUE(t *testing.T) {
	files, err := filepath.Glob("../examples/pools/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, f := range files {
		out, err := exec.Command("go", "tool", "cue", "vet", "-c", "-d", "#StoragePool", "../schema/pool.cue",
			f).CombinedOutput()
		if err != nil {
			t.Errorf("cue vet %s: %v\n%s", f, err, out)
		}
	}
}

// TestKadaluDocumentsByCUE checks that kadalu.cue accepts Kadalu's documents.
func TestKadaluDocumentsByCUE(t *testing.T) {
	files, err := filepath.Glob("../schema/testdata/kadalu/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, f := range files {
		if strings.Contains(f, "storageclass") {
			continue
		}
		out, err := exec.Command("go", "tool", "cue", "vet", "-c", "-d", "#KadaluStorage", "../schema/pool.cue",
			"../schema/kadalu.cue", f).CombinedOutput()
		if err != nil {
			t.Errorf("cue vet %s: %v\n%s", f, err, out)
		}
	}
}

// TestInvalidDocumentByCUE checks that the published schema alone rejects an invalid document.
func TestInvalidDocumentByCUE(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	text := "apiVersion: atoll.storage/v1alpha1\nkind: StoragePool\nmetadata: {name: a}\nspec: {type: External, " +
		"bricks: []}\n"
	if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "tool", "cue", "vet", "-c", "-d", "#StoragePool", "../schema/pool.cue",
		bad).CombinedOutput(); err == nil {
		t.Errorf("accepted:\n%s", out)
	}
}
