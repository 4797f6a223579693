// Package safepath works on files below a folder by file descriptors, in a way that
// no symbolic link, mount or rename that others plant can lead out of it: every
// path is resolved by openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.
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

// Dir is an open folder, the root of what its methods reach.
type Dir struct{ Entry }

// Open opens a folder as root.
func Open(name string) (*Dir, error) {
	f, err := os.OpenFile(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &Dir{Entry{f}}, nil
}

// resolve is how paths are followed: never upwards, never through links.
const resolve = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS

// Dir opens a folder below.
func (d *Dir) Dir(name string) (*Dir, error) {
	f, err := d.open(name, unix.O_DIRECTORY|unix.O_PATH)
	if err != nil {
		return nil, err
	}
	return &Dir{Entry{f}}, nil
}

// OpenPath opens a file or folder below, whatever it is.
func (d *Dir) OpenPath(name string) (*Entry, error) {
	f, err := d.open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	return &Entry{f}, nil
}

// Create makes an empty file below, or opens the one that is there, for reading and
// writing. Close it.
func (d *Dir) Create(name string, mode uint32) (*os.File, error) {
	return d.openAs(name, unix.O_RDWR|unix.O_CREAT, mode)
}

// OpenRDWR opens a file below for reading and writing; fs.ErrNotExist. Close it.
func (d *Dir) OpenRDWR(name string) (*os.File, error) {
	return d.openAs(name, unix.O_RDWR, 0)
}

// OpenDir opens a folder below for reading, as ioctl(2) and the like want it. Close it.
func (d *Dir) OpenDir(name string) (*os.File, error) {
	return d.open(name, unix.O_DIRECTORY|unix.O_RDONLY)
}

// ReadAny opens a file or folder below for reading. What stands for a device or a
// pipe must not be opened: look first.
func (d *Dir) ReadAny(name string) (*os.File, error) {
	return d.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
}

// ReadDirect opens a file below for reading past the page cache (O_DIRECT): offsets, lengths
// and buffers are in whole blocks. What was read before, and has been changed elsewhere since,
// is read anew. Close it.
func (d *Dir) ReadDirect(name string) (*os.File, error) {
	return d.open(name, unix.O_RDONLY|unix.O_DIRECT)
}

// Mode gives the type and permissions of what is below, without following a link.
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
	listing, err := d.OpenDir(".")
	if err != nil {
		return nil, err
	}
	defer listing.Close()
	return listing.Readdirnames(-1)
}
