package loop

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestAttach(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if found, err := Find(f); err != nil || found != "" {
		t.Errorf("before: %q, %v", found, err)
	}
	d, err := Attach(f, AutoClear)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := Find(f); err != nil || found != d.Name() {
		t.Errorf("%q, want %s: %v", found, d.Name(), err)
	}
	if _, err := d.WriteAt([]byte("text"), 4096); err != nil {
		t.Error(err)
	}
	if err := d.Sync(); err != nil {
		t.Error(err)
	}
	text := make([]byte, 4)
	if _, err := f.ReadAt(text, 4096); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	d.Close()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if found, err := Find(f); err == nil && found == "" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("it is still attached to %s, %v", found, err)
		}
	}
}
