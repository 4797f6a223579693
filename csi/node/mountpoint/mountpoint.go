// Package mountpoint mounts volumes at paths below the kubelet's root. It knows no requests:
// what is mounted where, it reads from the kernel each time.
package mountpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/mounted"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
)

// Point is a path below the kubelet's root where a volume is, or will be, mounted. No
// component above it is a symbolic link. Close it.
type Point struct {
	Parent *safepath.Dir
	Name   string // in Parent
	Path   string // as the request has it
}

// Close closes the point. It unmounts nothing.
func (p *Point) Close() error { return p.Parent.Close() }

// Create opens a path below the kubelet's root and creates its directory.
func Create(kubeletRoot, path string) (*Point, error) {
	relative, root, err := open(kubeletRoot, path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := root.MkdirAll(relative, 0o750); err != nil && !IsDead(err) {
		return nil, fmt.Errorf("create %s: %w", path, err)
	}
	return at(root, relative, path)
}

// Find opens a path below the kubelet's root; nil when its parent does not exist.
func Find(kubeletRoot, path string) (*Point, error) {
	relative, root, err := open(kubeletRoot, path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	p, err := at(root, relative, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return p, err
}

// open checks a path and opens the kubelet's root.
func open(kubeletRoot, path string) (relative string, root *safepath.Dir, err error) {
	relative, below := strings.CutPrefix(path, strings.TrimRight(kubeletRoot, "/")+"/")
	if !below || filepath.Clean(path) != path || !filepath.IsLocal(relative) {
		return "", nil, rpc.Invalid("path %q is not below the kubelet's root %s", path, kubeletRoot)
	}
	if root, err = safepath.Open(kubeletRoot); err != nil {
		return "", nil, fmt.Errorf("open the kubelet's root: %w", err)
	}
	return relative, root, nil
}

func at(root *safepath.Dir, relative, path string) (*Point, error) {
	parent, err := root.Dir(filepath.Dir(relative))
	if err != nil {
		return nil, fmt.Errorf("open the parent directory of %s: %w", path, err)
	}
	return &Point{parent, filepath.Base(relative), path}, nil
}

// IsDead reports whether an error is that of a mount whose client has died.
func IsDead(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EIO)
}

// safePath is the path through the open parent.
func (p *Point) safePath() string { return p.Parent.Path() + "/" + p.Name }

// IsMounted reports whether something is mounted at the point.
func (p *Point) IsMounted() (bool, error) {
	m, err := mounted.At(p.Path)
	return m != nil, err
}

// Bind mounts a directory with these flags, unless it is mounted so already. Another mount is
// unmounted first, except a mount whose client has died: pods that got a mount from it see
// only what covers it.
func (p *Point) Bind(dir *safepath.Dir, flags bind.Flags) error {
	m, err := mounted.At(p.Path)
	if err != nil {
		return err
	}
	if m != nil {
		has := bind.FromMountInfo(m.Options)
		sameFlags := has&flags == flags && has&bind.ReadOnly == flags&bind.ReadOnly
		switch same, err := p.Shows(dir); {
		case same && sameFlags:
			return nil
		case IsDead(err) && isOn(dir, m):
			return fmt.Errorf("check the mount at %s: its client lives, and does not reach the pool: %w", p.Path, err)
		case !IsDead(err):
			if err := p.Unmount(); err != nil {
				return err
			}
		}
	}
	return p.Cover(dir, flags)
}

// isOn reports whether a directory is on the file system of a mount. It does not ask the file
// system.
func isOn(dir *safepath.Dir, m *mountinfo.Info) bool {
	var st unix.Statx_t
	err := unix.Statx(int(dir.File().Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st)
	return err == nil && mounted.OnDevice(m, unix.Mkdev(st.Dev_major, st.Dev_minor))
}

// Shows reports whether a directory is mounted at the point. The error is that of the mount.
func (p *Point) Shows(dir *safepath.Dir) (bool, error) {
	shown, err := p.Parent.Dir(p.Name)
	if err != nil {
		return false, err
	}
	defer shown.Close()
	return shown.Same(dir)
}

// Cover mounts a directory over whatever is mounted at the point.
func (p *Point) Cover(dir *safepath.Dir, flags bind.Flags) error {
	at, err := p.Parent.Dir(p.Name) // follows no link
	if err == nil {
		err = bind.At(dir.File(), at.File(), flags)
		at.Close()
	}
	if err != nil {
		return fmt.Errorf("mount the volume at %s: %w", p.Path, err)
	}
	return nil
}

// Open opens what is mounted at the point.
func (p *Point) Open() (*safepath.Dir, error) {
	d, err := p.Parent.Dir(p.Name)
	if err == nil {
		var root unix.Stat_t // opening by path alone does not ask the file system
		if err = unix.Fstat(int(d.File().Fd()), &root); err != nil {
			d.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open the mount at %s: %w", p.Path, err)
	}
	return d, nil
}

// Unmount unmounts everything at the point.
func (p *Point) Unmount() error {
	for {
		found, err := p.IsMounted()
		if err != nil || !found {
			return err
		}
		err = unix.Unmount(p.safePath(), unix.UMOUNT_NOFOLLOW)
		if IsDead(err) || errors.Is(err, unix.EBUSY) {
			// The client has died, or a process that is ending still has an open file:
			// detached, no new process finds the mount.
			err = unix.Unmount(p.safePath(), unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil // another process was faster
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", p.Path, err)
		}
	}
}

// Remove unmounts everything at the point, and removes its directory, or the file on which a
// device was mounted.
func (p *Point) Remove() error {
	if err := p.Unmount(); err != nil {
		return err
	}
	err := p.Parent.Rmdir(p.Name)
	if errors.Is(err, unix.ENOTDIR) {
		err = p.Parent.Unlink(p.Name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", p.Path, err)
	}
	return nil
}
