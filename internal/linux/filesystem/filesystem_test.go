package filesystem

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/loop"
)

func TestOptions(t *testing.T) {
	for options, good := range map[string]bool{
		"":                          true,
		"-m crc=1,reflink=0":        true,
		"-m crc=1 -i size=1024":     true,
		"-l logdev=/dev/sda":        false, // another device
		"-d file,name=x":            false,
		"-p /etc/shadow":            false,
		"-f":                        false, // not allowed
		"-m":                        false, // without a value
		"-m -i":                     false,
		"-d name=/dev/sda,size=1g":  false,
		"-r rtdev=x":                false,
		"-l external-log,device=sd": false,
	} {
		args, err := Options(XFS, options)
		if (err == nil) != good || err != nil && !errors.Is(err, ErrOption) {
			t.Errorf("%q: %v, %v", options, args, err)
		}
	}
}

func TestParse(t *testing.T) {
	f, rest, unknown := Parse([]string{"noatime", "discard", "ro"})
	if f&bind.ReadOnly == 0 || !slices.Equal(rest, []string{"discard"}) || unknown != "" {
		t.Errorf("%v %v %q", f, rest, unknown)
	}
	if _, _, unknown := Parse([]string{"noatime", "logdev=/dev/sda"}); unknown != "logdev=/dev/sda" {
		t.Errorf("%q", unknown)
	}
}

// TestLifecycle creates, mounts, shuts down, grows and remounts file systems.
func TestLifecycle(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for _, kind := range []string{XFS, Ext4} {
		t.Run(kind, func(t *testing.T) {
			file, err := os.Create(filepath.Join(t.TempDir(), "file"))
			must(t, err)
			defer file.Close()
			must(t, file.Truncate(400<<20))
			device, err := loop.Attach(file, loop.AutoClear)
			must(t, err)
			defer device.Close()
			must(t, Make(t.Context(), device, kind, ""))
			target := t.TempDir()
			mount := func() *os.File {
				at, err := os.OpenFile(target, unix.O_PATH, 0)
				must(t, err)
				defer at.Close()
				must(t, Mount(device.Name(), kind, []string{"discard"}, at, bind.Flags(unix.MOUNT_ATTR_NOATIME)))
				in, err := os.Open(target)
				must(t, err)
				return in
			}
			in := mount()
			defer unix.Unmount(target, unix.MNT_DETACH)
			must(t, os.WriteFile(filepath.Join(target, "a"), []byte("text"), 0o600))
			must(t, Grow(in, device.Name(), kind, 400<<20)) // has that size already
			must(t, unix.Syncfs(int(in.Fd())))
			must(t, Shutdown(in))
			must(t, Shutdown(in))
			if err := os.WriteFile(filepath.Join(target, "b"), nil, 0o600); err == nil {
				t.Error("created a file after the shutdown")
			}
			in.Close()
			must(t, unix.Unmount(target, 0))
			must(t, file.Truncate(800<<20))
			must(t, loop.Refresh(device))
			must(t, Check(t.Context(), device, kind, 800<<20))
			in = mount()
			must(t, Grow(in, device.Name(), kind, 800<<20))
			in.Close()
			var st unix.Statfs_t
			must(t, unix.Statfs(target, &st))
			if size := int64(st.Blocks) * st.Bsize; size < 600<<20 {
				t.Errorf("grown to %d bytes", size)
			}
			if text, err := os.ReadFile(filepath.Join(target, "a")); err != nil || string(text) != "text" {
				t.Errorf("%q, %v", text, err)
			}
			must(t, unix.Unmount(target, 0))
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
