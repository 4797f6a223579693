package loop

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// file is an empty one, that can be a device's.
func file(t *testing.T) *os.File {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("loop devices need root")
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestAttachPassesOver: a device that is not usable is passed over, though it is free.
func TestAttachPassesOver(t *testing.T) {
	f := file(t)
	var passed []string
	d, err := AttachAs(f, "label", AutoClear, func(device string) (bool, error) {
		if len(passed) < 3 {
			passed = append(passed, device)
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if slices.Contains(passed, d.Name()) {
		t.Errorf("%s was not usable", d.Name())
	}
	slices.Sort(passed)
	if len(slices.Compact(passed)) != 3 {
		t.Errorf("it asked for %v: one of them twice", passed)
	}
	other := errors.New("other")
	if _, err := AttachAs(f, "label", AutoClear, func(string) (bool, error) { return false, other }); !errors.Is(err, other) {
		t.Error(err)
	}
}

func TestAttach(t *testing.T) {
	f := file(t)
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
