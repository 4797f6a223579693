package filesystem

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Ioctls of all file systems (include/uapi/linux/fs.h).
const (
	ioctlFreeze = 0xc0045877 // FIFREEZE, _IOWR('X', 119, int)
	ioctlThaw   = 0xc0045878 // FITHAW, _IOWR('X', 120, int)
)

// ErrFrozen reports that a file system is frozen already.
var ErrFrozen = errors.New("the file system is frozen by another program")

// Freeze flushes a mounted file system, given by a file or directory in it, and blocks writers
// until Thaw.
func Freeze(in *os.File) error {
	var none int32
	err := ioctl(in, ioctlFreeze, &none)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w; 'fsfreeze -u' thaws it", ErrFrozen)
	}
	if err != nil {
		return fmt.Errorf("freeze a file system: %w", err)
	}
	return nil
}

// Thaw unblocks writers. A file system that is not frozen is no error.
func Thaw(in *os.File) error {
	var none int32
	if err := ioctl(in, ioctlThaw, &none); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("thaw a file system: %w", err)
	}
	return nil
}
