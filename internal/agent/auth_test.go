package agent

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadKeys(t *testing.T) {
	dir := t.TempDir()
	if keys, err := ReadKeys(filepath.Join(dir, "none")); err != nil || len(keys) != 0 {
		t.Errorf("%v, %v", keys, err)
	}
	for name, text := range map[string]string{"1": "old", "2": "new", "..data": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat(text, 20)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if keys, err := ReadKeys(dir); err != nil || len(keys) != 2 || !bytes.HasPrefix(keys[0], []byte("new")) {
		t.Errorf("%q, %v", keys, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "3"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(dir); err == nil || !strings.Contains(err.Error(), "5 bytes") {
		t.Errorf("a short key: %v", err)
	}
}
