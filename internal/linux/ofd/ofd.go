// Package ofd locks files by their open file description (fcntl(2), F_OFD_SETLK): a lock lasts
// as long as a process or a loop device has the description open.
package ofd

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked reports that another description has an incompatible lock.
var ErrLocked = errors.New("the file is locked by another process")

// Lock acquires the exclusive lock of a whole file, or acquires it again, without waiting.
func Lock(f *os.File) error { return set(f, unix.F_WRLCK) }

// LockShared acquires a shared lock of a whole file, or acquires it again, without waiting. It
// excludes the exclusive lock of others.
func LockShared(f *os.File) error { return set(f, unix.F_RDLCK) }

// Locked reports whether another description has a lock.
func Locked(f *os.File) (bool, error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return false, fmt.Errorf("query the lock of %s: %w", f.Name(), os.NewSyscallError("fcntl", err))
	}
	return lock.Type != unix.F_UNLCK, nil
}

// Unlock releases the lock.
func Unlock(f *os.File) error { return set(f, unix.F_UNLCK) }

func set(f *os.File, kind int16) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", f.Name(), os.NewSyscallError("fcntl", err))
	}
	return nil
}
