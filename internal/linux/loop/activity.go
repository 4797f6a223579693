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

// Writes counts the writes and discards that a device, by path, has completed, and tells
// whether it has some under way.
func Writes(device string) (done uint64, underWay bool, err error) {
	stat, err := fields(device, "stat", statDiscards+1)
	if err != nil {
		return 0, false, err
	}
	flying, err := fields(device, "inflight", 2) // reads, writes
	if err != nil {
		return 0, false, err
	}
	return stat[statWrites] + stat[statDiscards], flying[1] > 0, nil
}

// fields reads a file of numbers about a device.
func fields(device, name string, least int) ([]uint64, error) {
	text, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), name))
	if err != nil {
		return nil, fmt.Errorf("asking what %s has done: %w", device, err)
	}
	var all []uint64
	for _, word := range strings.Fields(string(text)) {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("asking what %s has done: %w", device, err)
		}
		all = append(all, n)
	}
	if len(all) < least {
		return nil, fmt.Errorf("asking what %s has done: the kernel tells %d numbers, %d are needed", device, len(all), least)
	}
	return all, nil
}
