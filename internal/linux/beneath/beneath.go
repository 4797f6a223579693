// Package beneath works on files below a folder by file descriptors, in a way that
// no symbolic link, mount or rename that others plant can lead out of it: every
// path is resolved by openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.
package beneath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// Dir is an open folder, the root of what its methods reach. It is opened for its
// place only (O_PATH), which asks nothing of the file system; what reads or changes
// the folder itself goes through its name in /proc.
type Dir struct{ f *os.File }

// Open opens a folder as root.
func Open(name string) (*Dir, error) {
	f, err := os.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// Close closes the folder.
func (d *Dir) Close() error { return d.f.Close() }

// File is the folder itself.
func (d *Dir) File() *os.File { return d.f }

// Path names the folder for calls that take only names, such as mount(2). It is
// the folder itself, whatever its name means by now.
func (d *Dir) Path() string { return "/proc/self/fd/" + strconv.Itoa(int(d.f.Fd())) }

// resolve is how paths are followed: never upwards, never through links.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Dir opens a folder below.
func (d *Dir) Dir(name string) (*Dir, error) {
	f, err := d.open(name, unix.O_DIRECTORY|unix.O_PATH)
	if err != nil {
		return nil, err
	}
	return &Dir{f}, nil
}

// Read opens a folder below for reading, as ioctl(2) and the like want it. Close it.
func (d *Dir) Read(name string) (*os.File, error) {
	return d.open(name, unix.O_DIRECTORY|unix.O_RDONLY)
}

// ReadAny opens a file or folder below for reading. What stands for a device or a
// pipe must not be opened: look first.
func (d *Dir) ReadAny(name string) (*os.File, error) {
	return d.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
}

// Mode gives the type and permissions of what is below, without following a link.
func (d *Dir) Mode(name string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, &fs.PathError{Op: "fstatat", Path: name, Err: err}
	}
	return st.Mode, nil
}

func (d *Dir) open(name string, flags uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: resolve}
	for {
		fd, err := unix.Openat2(int(d.f.Fd()), name, &how)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "openat2", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

// parent opens the folder that a path is in, and gives the path's last component.
func (d *Dir) parent(name string) (*Dir, string, error) {
	dir, base := path.Split(path.Clean(name))
	if base == "." || base == ".." || base == "" || base == "/" {
		return nil, "", &fs.PathError{Op: "resolve", Path: name, Err: fs.ErrInvalid}
	}
	if dir == "" {
		dir = "."
	}
	p, err := d.Dir(dir)
	return p, base, err
}

// Mkdir makes a folder with this mode less the umask; fs.ErrExist when there is
// something.
func (d *Dir) Mkdir(name string, mode uint32) error {
	p, base, err := d.parent(name)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := unix.Mkdirat(int(p.f.Fd()), base, mode); err != nil {
		return &fs.PathError{Op: "mkdirat", Path: name, Err: err}
	}
	return nil
}

// Chmod sets the permissions of the folder itself.
func (d *Dir) Chmod(mode uint32) error {
	if err := unix.Chmod(d.Path(), mode); err != nil {
		return fmt.Errorf("setting the permissions: %w", err)
	}
	return nil
}

// MkdirAll makes a folder and those above it that are missing.
func (d *Dir) MkdirAll(name string, mode uint32) error {
	err := d.Mkdir(name, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if above := path.Dir(path.Clean(name)); above != "." {
			if err := d.MkdirAll(above, mode); err != nil {
				return err
			}
			err = d.Mkdir(name, mode)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// Rename moves a file or folder; what is at the new name must not be a folder
// with files.
func (d *Dir) Rename(from, to string) error {
	a, old, err := d.parent(from)
	if err != nil {
		return err
	}
	defer a.Close()
	b, name, err := d.parent(to)
	if err != nil {
		return err
	}
	defer b.Close()
	if err := unix.Renameat(int(a.f.Fd()), old, int(b.f.Fd()), name); err != nil {
		return fmt.Errorf("renaming %s to %s: %w", from, to, err)
	}
	return nil
}

// Rmdir removes an empty folder.
func (d *Dir) Rmdir(name string) error { return d.unlink(name, unix.AT_REMOVEDIR) }

// Unlink removes what is no folder.
func (d *Dir) Unlink(name string) error { return d.unlink(name, 0) }

func (d *Dir) unlink(name string, flags int) error {
	p, base, err := d.parent(name)
	if err != nil {
		return err
	}
	defer p.Close()
	if err := unix.Unlinkat(int(p.f.Fd()), base, flags); err != nil {
		return &fs.PathError{Op: "unlinkat", Path: name, Err: err}
	}
	return nil
}

// ReadFile reads a file below that has at most limit bytes.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK) // no waiting for the other end of a pipe
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = &fs.PathError{Op: "read", Path: name, Err: unix.EFBIG}
	}
	return text, err
}

// Names lists the folder, in no order.
func (d *Dir) Names() ([]string, error) {
	listing, err := d.Read(".")
	if err != nil {
		return nil, err
	}
	defer listing.Close()
	return listing.Readdirnames(-1)
}

// maxAttribute is the most that an attribute's value may have here, in bytes.
const maxAttribute = 4096

// ErrNoAttribute says that the folder has no such attribute.
var ErrNoAttribute = errors.New("there is no such attribute")

// Attribute reads an extended attribute of the folder.
func (d *Dir) Attribute(name string) ([]byte, error) {
	value := make([]byte, maxAttribute)
	n, err := unix.Getxattr(d.Path(), name, value)
	if errors.Is(err, unix.ENODATA) {
		return nil, ErrNoAttribute
	}
	if err != nil {
		return nil, fmt.Errorf("reading the attribute %s: %w", name, err)
	}
	return value[:n], nil
}

// NewAttribute sets an attribute that must not be there: fs.ErrExist.
func (d *Dir) NewAttribute(name string, value []byte) error {
	return d.setAttribute(name, value, unix.XATTR_CREATE)
}

// ReplaceAttribute sets an attribute that must be there: ErrNoAttribute.
func (d *Dir) ReplaceAttribute(name string, value []byte) error {
	return d.setAttribute(name, value, unix.XATTR_REPLACE)
}

// SetAttribute sets an attribute, whether or not it is there.
func (d *Dir) SetAttribute(name string, value []byte) error { return d.setAttribute(name, value, 0) }

func (d *Dir) setAttribute(name string, value []byte, flags int) error {
	err := unix.Setxattr(d.Path(), name, value, flags)
	if errors.Is(err, unix.ENODATA) {
		return ErrNoAttribute
	}
	if err != nil {
		return fmt.Errorf("setting the attribute %s: %w", name, err)
	}
	return nil
}

// RemoveAttribute removes an attribute; one that is not there is no error.
func (d *Dir) RemoveAttribute(name string) error {
	if err := unix.Removexattr(d.Path(), name); err != nil && !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("removing the attribute %s: %w", name, err)
	}
	return nil
}

// Same reports whether two are the same folder, by file system and inode; false
// when one of them does not answer.
func (d *Dir) Same(other *Dir) (bool, error) {
	var a, b unix.Stat_t
	if err := errors.Join(unix.Fstat(int(d.f.Fd()), &a), unix.Fstat(int(other.f.Fd()), &b)); err != nil {
		return false, fmt.Errorf("asking a folder what it is: %w", err)
	}
	return a.Dev == b.Dev && a.Ino == b.Ino, nil
}

// Permissions gives the folder's mode bits.
func (d *Dir) Permissions() (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(d.f.Fd()), &st); err != nil {
		return 0, fmt.Errorf("reading the permissions: %w", err)
	}
	return st.Mode & 0o7777, nil
}
