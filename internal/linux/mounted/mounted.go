// Package mounted answers questions about what is mounted that
// github.com/moby/sys/mountinfo, which reads the kernel's list, leaves open: that list has a
// line for each of the mounts that are stacked at one path, oldest first.
package mounted

import (
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// At returns the topmost mount at exactly this path, nil if there is none. The first match,
// which mountinfo.SingleEntryFilter stops at, is the lowest.
func At(path string) (*mountinfo.Info, error) {
	all, err := stack(path)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all[len(all)-1], nil
}

// Count returns how many mounts are stacked at exactly this path.
func Count(path string) (int, error) {
	all, err := stack(path)
	return len(all), err
}

func stack(path string) ([]*mountinfo.Info, error) {
	return mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Mountpoint != path, false })
}

// Containing returns the mount that a path is in. The path is absolute and clean.
func Containing(path string) (*mountinfo.Info, error) {
	all, err := mountinfo.GetMounts(mountinfo.ParentsFilter(path))
	if err != nil {
		return nil, err
	}
	found := &mountinfo.Info{}
	for _, m := range all {
		if len(m.Mountpoint) >= len(found.Mountpoint) {
			found = m
		}
	}
	return found, nil
}

// Shared reports whether mounts below this one propagate to its peers.
func Shared(m *mountinfo.Info) bool {
	for field := range strings.FieldsSeq(m.Optional) {
		if strings.HasPrefix(field, "shared:") {
			return true
		}
	}
	return false
}

// OnDevice reports whether a mount is of the file system on a device, by its number as stat(2)
// returns it.
func OnDevice(m *mountinfo.Info, device uint64) bool {
	return m.Major == int(unix.Major(device)) && m.Minor == int(unix.Minor(device))
}
