// Package safepath accesses files below a directory by file descriptors. No symbolic link, mount
// or rename that others plant there can lead out of it: every path is resolved by openat2(2)
// with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.
package safepath

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// Dir is an open directory, the root of the paths of its methods.
type Dir struct{ Entry }

// Open opens a directory as root.
func Open(name string) (*Dir, error) {
	f, err := os.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{Entry{f}}, nil
}

// resolve are the flags of openat2: never upwards, never through links.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Dir opens a directory below.
func (d *Dir) Dir(name string) (*Dir, error) {
	f, err := d.open(name, unix.O_DIRECTORY|unix.O_PATH)
	if err != nil {
		return nil, err
	}
	return &Dir{Entry{f}}, nil
}

// OpenPath opens a file, directory or anything else below as a path only (O_PATH).
func (d *Dir) OpenPath(name string) (*Entry, error) {
	f, err := d.open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	return &Entry{f}, nil
}

// Create creates an empty file below, or opens an existing one, for reading and writing. Close
// it.
func (d *Dir) Create(name string, mode uint32) (*os.File, error) {
	return d.openAs(name, unix.O_RDWR|unix.O_CREAT, mode)
}

// OpenRDWR opens a file below for reading and writing; fs.ErrNotExist. Close it.
func (d *Dir) OpenRDWR(name string) (*os.File, error) {
	return d.openAs(name, unix.O_RDWR, 0)
}

// OpenDir opens a directory below for reading, as ioctl(2) needs it. Close it.
func (d *Dir) OpenDir(name string) (*os.File, error) {
	return d.open(name, unix.O_DIRECTORY|unix.O_RDONLY)
}

// ReadAny opens a file or directory below for reading. Callers must check first that it is not a
// device or a pipe.
func (d *Dir) ReadAny(name string) (*os.File, error) {
	return d.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
}

// ReadDirect opens a file below for reading without the page cache (O_DIRECT): offsets, lengths
// and buffers are in whole blocks. It returns no cached data that was changed elsewhere since.
// Close it.
func (d *Dir) ReadDirect(name string) (*os.File, error) {
	return d.open(name, unix.O_RDONLY|unix.O_DIRECT)
}

// Mode returns the type and permissions of an entry below, without following a link.
func (d *Dir) Mode(name string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(d.f.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, &fs.PathError{Op: "fstatat", Path: name, Err: err}
	}
	return st.Mode, nil
}

func (d *Dir) open(name string, flags uint64) (*os.File, error) { return d.openAs(name, flags, 0) }

func (d *Dir) openAs(name string, flags uint64, mode uint32) (*os.File, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Mode: uint64(mode), Resolve: resolve}
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

// parent opens the directory that a path is in, and returns the path's last component.
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

// Mkdir creates a directory with this mode less the umask; fs.ErrExist.
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

// MkdirAll creates a directory and its missing parents.
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

// Rename renames a file or directory. It replaces an existing file or empty directory.
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
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	return nil
}

// Rmdir removes an empty directory.
func (d *Dir) Rmdir(name string) error { return d.unlink(name, unix.AT_REMOVEDIR) }

// Unlink removes a file.
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
	f, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK) // do not wait for the other end of a pipe
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

// Names returns the names in the directory, in no order.
func (d *Dir) Names() ([]string, error) {
	listing, err := d.OpenDir(".")
	if err != nil {
		return nil, err
	}
	defer listing.Close()
	return listing.Readdirnames(-1)
}
