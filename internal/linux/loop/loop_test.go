package loop

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// file returns an empty file to be attached to a device.
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

// TestAttachSkips: a free device that is not usable is skipped.
func TestAttachSkips(t *testing.T) {
	f := file(t)
	var skipped []string
	d, err := AttachAs(f, "label", AutoClear, func(device string) (bool, error) {
		if len(skipped) < 3 {
			skipped = append(skipped, device)
			return false, nil
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if slices.Contains(skipped, d.Name()) {
		t.Errorf("%s was not usable", d.Name())
	}
	slices.Sort(skipped)
	if len(slices.Compact(skipped)) != 3 {
		t.Errorf("devices %v: one of them was checked twice", skipped)
	}
	other := errors.New("other")
	_, err = AttachAs(f, "label", AutoClear, func(string) (bool, error) { return false, other })
	if !errors.Is(err, other) {
		t.Error(err)
	}
}

func TestAttach(t *testing.T) {
	f := file(t)
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if found, err := Find(f); err != nil || found != "" {
		t.Errorf("before Attach: %q, %v", found, err)
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
