// Package bind makes bind mounts with the system calls that use file descriptors (Linux 5.12).
// A mount has all its flags before it becomes visible, and belongs to no peer group except that
// of its mount point: mounts that are later made over it propagate to its slaves, such as those
// of a container, and nowhere else.
package bind

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Flags are attributes of a mount, MOUNT_ATTR_* of <linux/mount.h>.
type Flags uint64

// ReadOnly refuses writes.
const ReadOnly = Flags(unix.MOUNT_ATTR_RDONLY)

// names are the mount options that a bind mount can honour, as in mount(8) and in
// /proc/self/mountinfo.
var names = map[string]Flags{
	"ro": ReadOnly, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV, "noexec": unix.MOUNT_ATTR_NOEXEC,
	"noatime": unix.MOUNT_ATTR_NOATIME, "nodiratime": unix.MOUNT_ATTR_NODIRATIME,
	"relatime": unix.MOUNT_ATTR_RELATIME, "rw": 0, "suid": 0, "dev": 0, "exec": 0,
}

// Parse parses mount options; it returns the first one that a bind mount cannot honour.
func Parse(options []string) (f Flags, unknown string) {
	for _, o := range options {
		flag, known := names[o]
		if !known {
			return 0, o
		}
		f |= flag
	}
	return f, ""
}

// FromMountInfo parses the options of a mount in /proc/self/mountinfo. Options that are not flags
// of a bind mount are ignored.
func FromMountInfo(options string) Flags {
	var f Flags
	for option := range strings.SplitSeq(options, ",") {
		f |= names[option]
	}
	return f
}

// At mounts a directory or file at a mount point, over what is mounted there. Both may be opened
// with O_PATH. Slaves of the mount point see the mount too.
func At(source, mountPoint *os.File, f Flags) error {
	fd, err := unix.OpenTree(int(source.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return wrap("open_tree", err)
	}
	defer unix.Close(fd) // removes the mount unless it was moved
	attributes := unix.MountAttr{Attr_set: uint64(f), Propagation: unix.MS_PRIVATE}
	if f&unix.MOUNT_ATTR_NOATIME != 0 {
		attributes.Attr_clr = unix.MOUNT_ATTR__ATIME // the values for access times are exclusive
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return wrap("mount_setattr", err)
	}
	err = unix.MoveMount(fd, "", int(mountPoint.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return wrap("move_mount", err)
}

func wrap(call string, err error) error {
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: the kernel is older than Linux 5.12", os.NewSyscallError(call, err))
	}
	return os.NewSyscallError(call, err)
}
