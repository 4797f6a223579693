package loop

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Fields of /sys/block/<device>/stat (Documentation/block/stat.rst of Linux).
const (
	statWrites   = 4
	statDiscards = 11
)

// Writes returns the number of writes and discards that a device, by path, has completed, and
// whether any are in progress.
func Writes(device string) (done uint64, inProgress bool, err error) {
	stat, err := fields(device, "stat", statDiscards+1)
	if err != nil {
		return 0, false, err
	}
	inFlight, err := fields(device, "inflight", 2) // reads, writes
	if err != nil {
		return 0, false, err
	}
	return stat[statWrites] + stat[statDiscards], inFlight[1] > 0, nil
}

// fields reads a file of numbers in sysfs.
func fields(device, name string, least int) ([]uint64, error) {
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), name))
	if err != nil {
		return nil, fmt.Errorf("read %s of %s: %w", name, device, err)
	}
	var all []uint64
	for _, field := range strings.Fields(string(text)) {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read %s of %s: %w", name, device, err)
		}
		all = append(all, n)
	}
	if len(all) < least {
		return nil, fmt.Errorf("read %s of %s: the kernel reports %d numbers, want at least %d",
			name, device, len(all), least)
	}
	return all, nil
}
