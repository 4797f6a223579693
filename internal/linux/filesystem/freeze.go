package filesystem

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Calls of all file systems (include/uapi/linux/fs.h).
const (
	ioctlFreeze = 0xc0045877 // FIFREEZE, _IOWR('X', 119, int)
	ioctlThaw   = 0xc0045878 // FITHAW, _IOWR('X', 120, int)
)

// ErrFrozen says that somebody else has frozen a file system.
var ErrFrozen = errors.New("the file system is frozen by somebody else")

// Freeze writes a mounted file system out, and lets nobody write to it until Thaw: writers
// wait. It is by a file or folder in it.
func Freeze(in *os.File) error {
	var none int32
	err := ioctl(in, ioctlFreeze, &none)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w; 'fsfreeze -u' ends that", ErrFrozen)
	}
	if err != nil {
		return fmt.Errorf("freezing a file system: %w", err)
	}
	return nil
}

// Thaw lets writers go on. One that is not frozen is no error.
func Thaw(in *os.File) error {
	var none int32
	if err := ioctl(in, ioctlThaw, &none); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("thawing a file system: %w", err)
	}
	return nil
}
