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

// flags are mount options of the file systems themselves that may be asked for.
var flags = []string{"discard", "nodiscard", "lazytime"}

// Parse splits mount options into those of the mount and those of the file system; it tells
// the first that cannot be honoured.
func Parse(options []string) (f bind.Flags, own []string, unknown string) {
	for _, o := range options {
		if one, bad := bind.Parse([]string{o}); bad == "" {
			f |= one
			continue
		}
		if !slices.Contains(flags, o) {
			return 0, nil, o
		}
		own = append(own, o)
	}
	return f, own, ""
}

// Mount mounts a device at a place that is open. Nobody sees it before it has its flags.
func Mount(device, kind string, own []string, place *os.File, f bind.Flags) error {
	if kind != XFS && kind != Ext4 {
		return fmt.Errorf("%w: %q", ErrKind, kind)
	}
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	if err := configure(fs, device, kind, own); err != nil {
		return fmt.Errorf("mounting %s: %w%s", device, err, said(fs))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(f))
	if err != nil {
		return fmt.Errorf("mounting %s: %w%s", device, os.NewSyscallError("fsmount", err), said(fs))
	}
	defer unix.Close(fd)
	attributes := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attributes); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	err = unix.MoveMount(fd, "", int(place.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

func configure(fs int, device, kind string, own []string) error {
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	if kind == XFS {
		own = append([]string{"nouuid"}, own...) // a copy of a volume may be beside it
	}
	for _, o := range own {
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

// said is what the kernel has to say about a mount that failed.
func said(fs int) string {
	var b strings.Builder
	for text := make([]byte, 1024); ; {
		n, err := unix.Read(fs, text)
		if err != nil || n <= 0 {
			return b.String()
		}
		b.WriteString("; " + strings.TrimSpace(strings.TrimPrefix(string(text[:n]), "e ")))
	}
}
