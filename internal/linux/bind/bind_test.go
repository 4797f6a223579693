package bind

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/mounted"
)

// TestAt binds a directory without flags, and then over that mount with all flags.
func TestAt(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	from, to := open(t, filepath.Join(dir, "from")), filepath.Join(dir, "to")
	if err := os.WriteFile(filepath.Join(from.Name(), "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for unix.Unmount(to, unix.MNT_DETACH) == nil {
			continue
		}
	})
	options := []string{"ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"}
	all, _ := Parse(options)
	for _, f := range []Flags{0, all} {
		if err := At(from, open(t, to), f); err != nil {
			t.Fatal(err)
		}
		m, err := mounted.At(to)
		if err != nil || m == nil || FromMountInfo(m.Options)&all != f {
			t.Errorf("mounted %+v, %v, want %x", m, err, f)
		}
		if text, err := os.ReadFile(filepath.Join(to, "file")); err != nil || string(text) != "text" {
			t.Errorf("%q, %v", text, err)
		}
	}
	if err := os.WriteFile(filepath.Join(to, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to a read-only mount: %v", err)
	}
	if _, unknown := Parse([]string{"ro", "sync"}); unknown != "sync" {
		t.Errorf("unknown option %q", unknown)
	}
}

func open(t *testing.T, name string) *os.File {
	t.Helper()
	if err := os.MkdirAll(name, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
