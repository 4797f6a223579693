// Package bind mounts folders at other places with the calls that take file
// descriptors (Linux 5.12). A mount has all its flags before it can be seen, and it
// belongs to no peer group but that of its place: what is later mounted over it
// reaches those who took their mount from this one, such as a container, and nobody
// else.
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

// names are the mount options that a bind mount can honour, as mount(8) and
// mountinfo write them.
var names = map[string]Flags{
	"ro": ReadOnly, "nosuid": unix.MOUNT_ATTR_NOSUID, "nodev": unix.MOUNT_ATTR_NODEV, "noexec": unix.MOUNT_ATTR_NOEXEC,
	"noatime": unix.MOUNT_ATTR_NOATIME, "nodiratime": unix.MOUNT_ATTR_NODIRATIME,
	"relatime": unix.MOUNT_ATTR_RELATIME, "rw": 0, "suid": 0, "dev": 0, "exec": 0,
}

// Parse reads mount options; it tells the first one that a bind mount cannot honour.
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

// Of reads the flags of a mount as mountinfo writes them. What is not a flag of a
// bind mount is passed over.
func Of(flags string) Flags {
	var f Flags
	for flag := range strings.SplitSeq(flags, ",") {
		f |= names[flag]
	}
	return f
}

// At mounts a folder, opened by O_PATH or otherwise, at a place, opened so too, over
// what is mounted there. Who has the place mounted elsewhere as a slave, sees it too.
func At(folder, place *os.File, f Flags) error {
	fd, err := unix.OpenTree(int(folder.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return wrap("open_tree", err)
	}
	defer unix.Close(fd) // before it is attached, this takes the mount away
	attributes := unix.MountAttr{Attr_set: uint64(f), Propagation: unix.MS_PRIVATE}
	if f&unix.MOUNT_ATTR_NOATIME != 0 {
		attributes.Attr_clr = unix.MOUNT_ATTR__ATIME // times of access are a choice, not flags
	}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return wrap("mount_setattr", err)
	}
	err = unix.MoveMount(fd, "", int(place.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return wrap("move_mount", err)
}

func wrap(call string, err error) error {
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: the kernel is older than Linux 5.12", os.NewSyscallError(call, err))
	}
	return os.NewSyscallError(call, err)
}
