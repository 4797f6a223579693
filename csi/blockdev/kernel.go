package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
)

// bootID tells one run of the machine from the others (random(4)).
var bootID = sync.OnceValue(func() string {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
})

// mountedAt tells where a device is mounted, or where a pod has it that uses it raw; "" when it
// can be had by this process alone.
func mountedAt(device string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return "", fmt.Errorf("looking at %s: %w", device, err)
	}
	number := mountinfo.Number(st.Rdev)
	all, err := mountinfo.All()
	if err != nil {
		return "", err
	}
	for _, m := range all {
		if m.Device == number || m.Root != "/" && strings.HasSuffix(m.Root, "/"+filepath.Base(device)) && isNode(m.Target, st.Rdev) {
			return m.Target, nil
		}
	}
	return "", nil
}

// usable tells whether a device that has no file can get one. Where somebody still has the node
// of it, from a volume that it was of before, they would get at the new one.
func usable(device string) (bool, error) {
	at, err := mountedAt(device)
	return at == "", err
}

// isNode tells whether a path is the node of a device, as pods have it that use it raw.
func isNode(path string, device uint64) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == device
}
