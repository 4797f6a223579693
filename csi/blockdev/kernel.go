package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/mounted"
)

// bootID identifies one boot of the machine (random(4)).
var bootID = sync.OnceValue(func() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
})

// mountedAt returns where a device is mounted, or where a pod that uses it raw has it; "" when
// only this process can access it.
func mountedAt(device string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return "", fmt.Errorf("stat %s: %w", device, err)
	}
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return "", err
	}
	for _, m := range all {
		raw := m.Root != "/" && strings.HasSuffix(m.Root, "/"+filepath.Base(device)) && isDevice(m.Mountpoint, st.Rdev)
		if raw || mounted.OnDevice(m, st.Rdev) {
			return m.Mountpoint, nil
		}
	}
	return "", nil
}

// openMount opens the root of the file system that is on a device, and returns where it is
// mounted; nil when it is not mounted.
func openMount(device *os.File) (root *os.File, at string, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(device.Fd()), &st); err != nil {
		return nil, "", fmt.Errorf("stat %s: %w", device.Name(), err)
	}
	all, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !mounted.OnDevice(m, st.Rdev), false
	})
	if err != nil {
		return nil, "", err
	}
	for _, m := range all {
		f, err := os.OpenFile(m.Mountpoint, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, "", fmt.Errorf("open the file system on %s: %w", device.Name(), err)
		}
		var in unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &in); err == nil && in.Dev == st.Rdev {
			return f, m.Mountpoint, nil
		}
		f.Close() // something else is mounted over it
	}
	return nil, "", nil
}

// usable reports whether a device without a file may get one. A pod that still has the device
// node of an earlier volume could access the new volume.
func usable(device string) (bool, error) {
	at, err := mountedAt(device)
	return at == "", err
}

// isDevice reports whether a path is the node of a device, as in pods that use it raw.
func isDevice(path string, device uint64) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == device
}
