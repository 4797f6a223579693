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

// Entry is an open file or folder. It is opened for its place only (O_PATH), which asks
// nothing of the file system; what reads or changes the entry itself goes through its
// name in /proc.
type Entry struct{ f *os.File }

// Of is the entry of a file that is open; it is closed with that.
func Of(f *os.File) *Entry { return &Entry{f} }

// Close closes it.
func (e *Entry) Close() error { return e.f.Close() }

// File is the entry itself.
func (e *Entry) File() *os.File { return e.f }

// Path names it for calls that take only names, such as mount(2). It is
// the entry itself, whatever its name means by now.
func (e *Entry) Path() string { return "/proc/self/fd/" + strconv.Itoa(int(e.f.Fd())) }

// Chmod sets the permissions.
func (e *Entry) Chmod(mode uint32) error {
	if err := unix.Chmod(e.Path(), mode); err != nil {
		return fmt.Errorf("setting the permissions: %w", err)
	}
	return nil
}

// maxAttribute is the most that an attribute's value may have here, in bytes.
const maxAttribute = 4096

// ErrNoAttribute says that the folder has no such attribute.
var ErrNoAttribute = errors.New("there is no such attribute")

// Attribute reads an extended attribute of the file or folder.
func (e *Entry) Attribute(name string) ([]byte, error) {
	value := make([]byte, maxAttribute)
	n, err := unix.Getxattr(e.Path(), name, value)
	if errors.Is(err, unix.ENODATA) {
		return nil, ErrNoAttribute
	}
	if err != nil {
		return nil, fmt.Errorf("reading the attribute %s: %w", name, err)
	}
	return value[:n], nil
}

// maxList is the most that the names of all attributes can have, in bytes: XATTR_LIST_MAX of
// <linux/limits.h>.
const maxList = 64 << 10

// Attributes lists the names of the attributes that begin with a prefix, in no order.
func (e *Entry) Attributes(prefix string) ([]string, error) {
	list := make([]byte, maxList)
	n, err := unix.Listxattr(e.Path(), list)
	if err != nil {
		return nil, fmt.Errorf("listing the attributes: %w", err)
	}
	all := strings.Split(string(list[:n]), "\x00")
	return slices.DeleteFunc(all, func(name string) bool { return name == "" || !strings.HasPrefix(name, prefix) }), nil
}

// NewAttribute sets an attribute that must not be there: fs.ErrExist.
func (e *Entry) NewAttribute(name string, value []byte) error {
	return e.setAttribute(name, value, unix.XATTR_CREATE)
}

// ReplaceAttribute sets an attribute that must be there: ErrNoAttribute.
func (e *Entry) ReplaceAttribute(name string, value []byte) error {
	return e.setAttribute(name, value, unix.XATTR_REPLACE)
}

// SetAttribute sets an attribute, whether or not it is there.
func (e *Entry) SetAttribute(name string, value []byte) error { return e.setAttribute(name, value, 0) }

func (e *Entry) setAttribute(name string, value []byte, flags int) error {
	err := unix.Setxattr(e.Path(), name, value, flags)
	if errors.Is(err, unix.ENODATA) {
		return ErrNoAttribute
	}
	if err != nil {
		return fmt.Errorf("setting the attribute %s: %w", name, err)
	}
	return nil
}

// RemoveAttribute removes an attribute; one that is not there is no error.
func (e *Entry) RemoveAttribute(name string) error {
	if err := unix.Removexattr(e.Path(), name); err != nil && !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("removing the attribute %s: %w", name, err)
	}
	return nil
}

// Same reports whether two are the same file or folder, by file system and inode; false
// when one of them does not answer.
func (e *Entry) Same(other interface{ File() *os.File }) (bool, error) {
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(int(e.f.Fd()), &a), unix.Fstat(int(other.File().Fd()), &b)); err != nil {
		return false, fmt.Errorf("asking what a file is: %w", err)
	}
	return a.Dev == b.Dev && a.Ino == b.Ino, nil
}

// Permissions gives the mode bits.
func (e *Entry) Permissions() (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(e.f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("reading the permissions: %w", err)
	}
	return st.Mode & 0o7777, nil
}
