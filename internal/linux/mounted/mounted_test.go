package mounted

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

func TestAt(t *testing.T) {
	if m, err := At("/proc"); err != nil || m == nil || m.FSType != "proc" {
		t.Errorf("%+v, %v", m, err)
	}
	if m, err := At("/nothing is mounted here"); err != nil || m != nil {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestStack mounts over a mount, at a path that the kernel escapes.
func TestStack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	at := filepath.Join(t.TempDir(), `with space\`)
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	for n, name := range []string{"first", "second"} {
		if count, err := Count(at); err != nil || count != n {
			t.Errorf("%d mounts, want %d: %v", count, n, err)
		}
		if err := unix.Mount(name, at, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
		m, err := At(at)
		if err != nil || m == nil || m.Source != name {
			t.Fatalf("%+v, %v", m, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil || !OnDevice(m, st.Dev) || OnDevice(m, st.Dev+1) {
			t.Errorf("%+v, device %d, %v", m, st.Dev, err)
		}
		if in, err := Containing(filepath.Join(at, "file")); err != nil || in.Source != name {
			t.Errorf("%+v, %v", in, err)
		}
	}
}

func TestContaining(t *testing.T) {
	for path, want := range map[string]string{"/proc": "/proc", "/proc/self": "/proc", "/procedure": "/", "/": "/"} {
		if m, err := Containing(path); err != nil || m.Mountpoint != want {
			t.Errorf("%s is in %+v, %v", path, m, err)
		}
	}
}

func TestShared(t *testing.T) {
	for optional, want := range map[string]bool{
		"": false, "master:2": false, "shared:7": true, "master:2 shared:7": true,
	} {
		if got := Shared(&mountinfo.Info{Optional: optional}); got != want {
			t.Errorf("%q: %t", optional, got)
		}
	}
}
