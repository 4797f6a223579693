package filesystem

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/bind"
)

// supported are the supported mount options that the file systems themselves handle.
var supported = []string{"discard", "nodiscard", "lazytime"}

// Parse splits mount options into flags of the mount and options of the file system; it returns
// the first that is not supported.
func Parse(options []string) (f bind.Flags, ofFileSystem []string, unknown string) {
	for _, o := range options {
		if flag, bad := bind.Parse([]string{o}); bad == "" {
			f |= flag
			continue
		}
		if !slices.Contains(supported, o) {
			return 0, nil, o
		}
		ofFileSystem = append(ofFileSystem, o)
	}
	return f, ofFileSystem, ""
}

// Mount mounts a device at an open mount point. The mount has its flags before it becomes
// visible.
func Mount(device, kind string, options []string, mountPoint *os.File, f bind.Flags) error {
	if kind != XFS && kind != Ext4 {
		return fmt.Errorf("%w: %q", ErrKind, kind)
	}
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := configure(fs, device, kind, options); err != nil {
		return fmt.Errorf("mount %s: %w%s", device, err, kernelMessages(fs))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(f))
	if err != nil {
		return fmt.Errorf("mount %s: %w%s", device, os.NewSyscallError("fsmount", err), kernelMessages(fs))
	}
	defer unix.Close(fd)
	attributes := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	err = unix.MoveMount(fd, "", int(mountPoint.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

func configure(fs int, device, kind string, options []string) error {
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	if kind == XFS {
		options = append([]string{"nouuid"}, options...) // a copy of the volume has the same UUID
	}
	for _, o := range options {
		if err := unix.FsconfigSetFlag(fs, o); err != nil {
			return fmt.Errorf("option %s: %w", o, os.NewSyscallError("fsconfig", err))
		}
	}
	err := unix.FsconfigCreate(fs)
	if errors.Is(err, unix.EUCLEAN) {
		return fmt.Errorf("%w; attach the volume raw and run 'xfs_repair' or 'e2fsck': %w", ErrDamaged, err)
	}
	return os.NewSyscallError("fsconfig", err)
}

// kernelMessages returns the kernel's messages about a mount that failed.
func kernelMessages(fs int) string {
	var b strings.Builder
	for text := make([]byte, 1024); ; {
		n, err := unix.Read(fs, text)
		if err != nil || n <= 0 {
			return b.String()
		}
		b.WriteString("; " + strings.TrimSpace(strings.TrimPrefix(string(text[:n]), "e ")))
	}
}
