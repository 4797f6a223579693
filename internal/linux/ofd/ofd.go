// Package ofd locks files by their open file description (fcntl(2), F_OFD_SETLK): a
// lock lasts as long as anybody has the description, be it a process or a loop device.
package ofd

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrHeld says that somebody else has the lock.
var ErrHeld = errors.New("somebody else has the lock")

// Lock takes the lock for writing of a whole file, or takes it again, without waiting.
func Lock(f *os.File) error { return set(f, unix.F_WRLCK) }

// LockShared takes a lock of a whole file that others may have too, or takes it again, without
// waiting. Nobody gets the one of Lock meanwhile.
func LockShared(f *os.File) error { return set(f, unix.F_RDLCK) }

// Held tells whether somebody else has the lock.
func Held(f *os.File) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, fmt.Errorf("asking who has locked %s: %w", f.Name(), os.NewSyscallError("fcntl", err))
	}
	return lock.Type != unix.F_UNLCK, nil
}

// Unlock gives it back.
func Unlock(f *os.File) error { return set(f, unix.F_UNLCK) }

func set(f *os.File, kind int16) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrHeld
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", f.Name(), os.NewSyscallError("fcntl", err))
	}
	return nil
}
