package safepath

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Entry is an open file or directory. It is opened as a path only (O_PATH), without a request to
// the file system; methods that read or change the entry itself use its path in /proc.
type Entry struct{ f *os.File }

// FromFile returns the entry of an open file. Closing the file closes it.
func FromFile(f *os.File) *Entry { return &Entry{f} }

// Close closes it.
func (e *Entry) Close() error { return e.f.Close() }

// File returns the open file.
func (e *Entry) File() *os.File { return e.f }

// Path returns a path for system calls that need one, such as mount(2). It stays the same entry
// when the entry is renamed or replaced.
func (e *Entry) Path() string { return "/proc/self/fd/" + strconv.Itoa(int(e.f.Fd())) }

// Chmod sets the permissions.
func (e *Entry) Chmod(mode uint32) error {
	if err := unix.Chmod(e.Path(), mode); err != nil {
		return fmt.Errorf("set permissions: %w", err)
	}
	return nil
}

// maxAttribute is the longest supported value of an xattr, in bytes.
const maxAttribute = 4096

// ErrNoAttribute reports that an xattr does not exist.
var ErrNoAttribute = errors.New("there is no such attribute")

// Attribute reads an xattr of the file or directory.
func (e *Entry) Attribute(name string) ([]byte, error) {
	value := make([]byte, maxAttribute)
	n, err := unix.Getxattr(e.Path(), name, value)
	if errors.Is(err, unix.ENODATA) {
		return nil, ErrNoAttribute
	}
	if err != nil {
		return nil, fmt.Errorf("read attribute %s: %w", name, err)
	}
	return value[:n], nil
}

// maxList is the longest list of the names of all xattrs, in bytes: XATTR_LIST_MAX of
// <linux/limits.h>.
const maxList = 64 << 10

// Attributes returns the names of xattrs that begin with a prefix, in no order.
func (e *Entry) Attributes(prefix string) ([]string, error) {
	list := make([]byte, maxList)
	n, err := unix.Listxattr(e.Path(), list)
	if err != nil {
		return nil, fmt.Errorf("list attributes: %w", err)
	}
	all := strings.Split(string(list[:n]), "\x00")
	return slices.DeleteFunc(all, func(name string) bool { return name == "" || !strings.HasPrefix(name, prefix) }), nil
}

// NewAttribute sets an xattr that must not exist: fs.ErrExist.
func (e *Entry) NewAttribute(name string, value []byte) error {
	return e.setAttribute(name, value, unix.XATTR_CREATE)
}

// ReplaceAttribute sets an xattr that must exist: ErrNoAttribute.
func (e *Entry) ReplaceAttribute(name string, value []byte) error {
	return e.setAttribute(name, value, unix.XATTR_REPLACE)
}

// SetAttribute sets an xattr, whether or not it exists.
func (e *Entry) SetAttribute(name string, value []byte) error { return e.setAttribute(name, value, 0) }

func (e *Entry) setAttribute(name string, value []byte, flags int) error {
	err := unix.Setxattr(e.Path(), name, value, flags)
	if errors.Is(err, unix.ENODATA) {
		return ErrNoAttribute
	}
	if err != nil {
		return fmt.Errorf("set attribute %s: %w", name, err)
	}
	return nil
}

// RemoveAttribute removes an xattr. An xattr that does not exist is no error.
func (e *Entry) RemoveAttribute(name string) error {
	if err := unix.Removexattr(e.Path(), name); err != nil && !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("remove attribute %s: %w", name, err)
	}
	return nil
}

// ID identifies a file or directory of this machine for as long as it exists.
type ID struct{ device, inode uint64 }

// ErrGone reports that an open entry was removed: a network file system no longer knows it.
var ErrGone = errors.New("it was removed")

// ID asks the file system for the entry's ID. ErrGone when it was removed.
func (e *Entry) ID() (ID, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(e.f.Fd()), &st)
	if errors.Is(err, unix.ESTALE) || errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return ID{}, fmt.Errorf("compare files: %w", err)
	}
	return ID{st.Dev, st.Ino}, nil
}

// Same reports whether two entries are the same file or directory, by file system and inode.
// An error when one of them does not respond; ErrGone when one was removed.
func (e *Entry) Same(other interface{ File() *os.File }) (bool, error) {
	a, err := e.ID()
	if err != nil {
		return false, err
	}
	b, err := FromFile(other.File()).ID()
	return err == nil && a == b, err
}

// Permissions returns the mode bits.
func (e *Entry) Permissions() (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(e.f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("read permissions: %w", err)
	}
	return st.Mode & 0o7777, nil
}
