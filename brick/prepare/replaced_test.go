package prepare

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReplacedUnderMount replaces a disk on a node that keeps running: the former one is still mounted.
func TestReplacedUnderMount(t *testing.T) {
	blank := func(t *testing.T, disk string) string {
		must(t, os.WriteFile(disk, nil, 0o600))
		must(t, os.Truncate(disk, diskSize))
		return disk
	}
	for name, test := range map[string]struct {
		replace func(t *testing.T, b *Brick)
		kept    bool // the data
	}{
		"the next generation under the same name": {func(t *testing.T, b *Brick) {
			must(t, os.Remove(b.Device))
			blank(t, b.Device)
			b.Generation = 2
		}, false},
		"another device": {func(t *testing.T, b *Brick) { b.Device = blank(t, b.Device+"-2") }, false},
		"the same disk under another number, as after an NVMe reset": {func(t *testing.T, b *Brick) {
			b.Device = secondLoop(t, b.Device)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newDiskBrick(t)
			must(t, run(b))
			file := filepath.Join(b.Directory, "file")
			must(t, os.WriteFile(file, []byte("text"), 0o600))
			test.replace(t, &b)
			f, err := os.Open(file)
			must(t, err)
			if err := run(b); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "fuser") {
				t.Errorf("while a file is open: %v", err)
			}
			must(t, f.Close())
			must(t, run(b))
			checkIsBrick(t, b)
			if text, err := os.ReadFile(file); (err == nil && string(text) == "text") != test.kept {
				t.Errorf("the file of the former disk: %q, %v", text, err)
			}
			must(t, run(b)) // again, as after a restart of the pod
			checkIsBrick(t, b)
		})
	}
}

// secondLoop attaches another loop device to a file.
func secondLoop(t *testing.T, disk string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", disk).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return device
}
