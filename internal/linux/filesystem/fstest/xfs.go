// Package fstest creates file systems for tests.
package fstest

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
)

// xfsSize is the size of the file system that MountXFS creates, in bytes. The file is sparse.
const xfsSize = 20 << 30

// MountXFS mounts a new XFS over the directory at until the test ends.
func MountXFS(t testing.TB, at string) {
	t.Helper()
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := disk.Truncate(xfsSize); err != nil {
		t.Fatal(err)
	}
	device, err := loop.Attach(disk, loop.AutoClear)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if err := filesystem.Make(t.Context(), device, filesystem.XFS, ""); err != nil {
		t.Fatal(err)
	}
	mountPoint, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer mountPoint.Close()
	if err := filesystem.Mount(device.Name(), filesystem.XFS, nil, mountPoint, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
