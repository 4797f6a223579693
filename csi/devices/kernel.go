package devices

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

// openers tells whether a device is mounted or is used by others than this process: it
// cannot be had for them alone.
func openers(device string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return false, fmt.Errorf("looking at %s: %w", device, err)
	}
	number := mountinfo.Number(st.Rdev)
	all, err := mountinfo.All()
	if err != nil {
		return false, err
	}
	for _, m := range all {
		if m.Device == number || m.Root != "/" && strings.HasSuffix(m.Root, "/"+filepath.Base(device)) && isNode(m.Target, st.Rdev) {
			return true, nil
		}
	}
	return false, nil
}

// isNode tells whether a path is the node of a device, as pods have it that use it raw.
func isNode(path string, device uint64) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == device
}
