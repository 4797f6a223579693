// Package prjquota limits the size of directories with the kernel's project quotas: every file
// below a directory belongs to the directory's project, and the file system counts and limits
// the usage of each project. XFS supports them when it is mounted with prjquota, ext4 when it
// also was created with the feature "project".
package prjquota

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported reports that the file system of a directory does not enforce project quotas.
var ErrUnsupported = errors.New("the file system does not enforce project quotas")

// ErrNone reports that a directory belongs to no project.
var ErrNone = errors.New("the directory has no limit")

// Usage is the usage of a project in bytes and files, and its limit in bytes; 0 is no limit.
type Usage struct {
	Bytes, Limit uint64
	Files        uint64
}

// FileSystem is a file system that enforces project quotas. Only one process at a time may use
// it: Limit chooses a free project without a lock.
type FileSystem struct{ root *os.File }

// Open opens the file system of a directory, which must be open for reading; ErrUnsupported if
// it does not enforce project quotas.
func Open(root *os.File) (*FileSystem, error) {
	state, err := enforced(root)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnsupported, root.Name(), err)
	}
	if !state {
		return nil, fmt.Errorf("%w: %s is mounted without prjquota", ErrUnsupported, root.Name())
	}
	return &FileSystem{root}, nil
}

// Limit limits a directory, which must be open for reading, to this many bytes. A directory
// without a project should be empty: existing files are not counted. seed chooses the project,
// or the next free one. The directory keeps it, so that a repeat of an interrupted call finds
// it.
func (s *FileSystem) Limit(dir *os.File, seed string, bytes uint64) error {
	if bytes == 0 {
		return fmt.Errorf("limit %s: 0 bytes would be no limit", dir.Name())
	}
	id, err := s.ensureProject(dir, seed)
	if err != nil {
		return fmt.Errorf("assign a project to %s: %w", dir.Name(), err)
	}
	if err := setLimit(s.root, id, bytes); err != nil {
		return fmt.Errorf("limit %s to %d bytes: %w", dir.Name(), bytes, err)
	}
	return nil
}

// ensureProject returns the directory's project. A directory without one gets the first free
// project from the seed's on.
func (s *FileSystem) ensureProject(dir *os.File, seed string) (uint32, error) {
	a, err := attributes(dir)
	if err != nil {
		return 0, err
	}
	if a.project != 0 && a.flags&flagInherit != 0 {
		return a.project, nil
	}
	h := fnv.New32a()
	h.Write([]byte(seed))
	id := a.project // set by an interrupted call, or 0
	for candidate := h.Sum32(); id == 0; candidate++ {
		used, err := s.used(candidate)
		if err != nil {
			return 0, err
		}
		if !used {
			id = candidate
		}
	}
	a.project, a.flags = id, a.flags|flagInherit
	return id, setAttributes(dir, a)
}

// Join moves a file or directory, open for reading, into the project of a directory, as if it had
// been created in that directory.
func (s *FileSystem) Join(f, dir *os.File) error {
	a, err := attributes(dir)
	if err != nil {
		return err
	}
	before, err := attributes(f)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	want := before
	want.project = a.project
	if info.IsDir() {
		want.flags |= flagInherit
	}
	if want == before {
		return nil
	}
	return setAttributes(f, want)
}

// used reports whether a project has files or a limit. 0 means no project, and the highest
// number is invalid in XFS.
func (s *FileSystem) used(id uint32) (bool, error) {
	if id == 0 || id == ^uint32(0) {
		return true, nil
	}
	u, err := usage(s.root, id)
	if errors.Is(err, ErrNone) {
		return false, nil
	}
	return u != Usage{}, err
}

// Usage returns the usage of a directory; ErrNone when it belongs to no project.
func (s *FileSystem) Usage(dir *os.File) (Usage, error) {
	a, err := attributes(dir)
	if err != nil {
		return Usage{}, err
	}
	if a.project == 0 {
		return Usage{}, ErrNone
	}
	return usage(s.root, a.project)
}

// Clear removes the limit of a directory. The directory keeps its project, which is free again
// after the last file of it was removed.
func (s *FileSystem) Clear(dir *os.File) error {
	a, err := attributes(dir)
	if err != nil || a.project == 0 {
		return err
	}
	if err := setLimit(s.root, a.project, 0); err != nil {
		return fmt.Errorf("remove the limit of %s: %w", dir.Name(), err)
	}
	return nil
}

// fsxattr is struct fsxattr of <linux/fs.h>.
type fsxattr struct {
	flags      uint32
	extent     uint32
	extents    uint32
	project    uint32
	cowExtents uint32
	_          [8]byte
}

// From <linux/fs.h>: the inode flag that makes new files inherit the project of their directory,
// and two ioctls, _IOR and _IOW ('X', 31 and 32, struct fsxattr).
const (
	flagInherit   = 0x200      // FS_XFLAG_PROJINHERIT
	getAttributes = 0x801c581f // FS_IOC_FSGETXATTR
	putAttributes = 0x401c5820 // FS_IOC_FSSETXATTR
)

func attributes(f *os.File) (fsxattr, error) {
	var a fsxattr
	return a, ioctl(f, getAttributes, &a)
}

func setAttributes(f *os.File, a fsxattr) error { return ioctl(f, putAttributes, &a) }

func ioctl(f *os.File, request uintptr, a *fsxattr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(a))); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
