// Package prjquota bounds what folders of a file system can hold, by the kernel's
// project quotas: every file below a folder carries the folder's project, and the
// file system counts and limits what a project has. XFS has them when it is mounted
// with prjquota, ext4 when made with the feature "project" and mounted with it.
package prjquota

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrUnsupported says that the file system of a folder enforces no project quotas:
// limits on it would be promises without force.
var ErrUnsupported = errors.New("the file system enforces no project quotas")

// ErrNone says that a folder is in no project.
var ErrNone = errors.New("the folder has no limit")

// Usage is what a project has, in bytes and in files; a limit of 0 is none.
type Usage struct {
	Bytes, Limit uint64
	Files        uint64
}

// FileSystem is one that enforces project quotas. Its methods are for one process
// at a time: projects are chosen by looking which are free.
type FileSystem struct{ root *os.File }

// Open looks at the file system that a folder is in, which must be open for
// reading; ErrUnsupported if it enforces no project quotas.
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

// Limit bounds a folder, which must be open for reading, to this many bytes. A
// folder that is in no project yet should be empty: what is in it already is not
// counted. The project is chosen from seed, and any free one does; it stays with
// the folder, so that a repeat, cut off anywhere, finds it.
func (s *FileSystem) Limit(folder *os.File, seed string, bytes uint64) error {
	if bytes == 0 {
		return fmt.Errorf("limiting %s: 0 bytes would be no limit", folder.Name())
	}
	id, err := s.join(folder, seed)
	if err != nil {
		return fmt.Errorf("giving %s a project: %w", folder.Name(), err)
	}
	if err := setLimit(s.root, id, bytes); err != nil {
		return fmt.Errorf("limiting %s to %d bytes: %w", folder.Name(), bytes, err)
	}
	return nil
}

// join gives the folder's project; one without gets the first free one from the
// seed's on.
func (s *FileSystem) join(folder *os.File, seed string) (uint32, error) {
	a, err := attributes(folder)
	if err != nil {
		return 0, err
	}
	if a.project != 0 && a.flags&flagInherit != 0 {
		return a.project, nil
	}
	h := fnv.New32a()
	h.Write([]byte(seed))
	id := a.project // half of what is to be done may be done
	for candidate := h.Sum32(); id == 0; candidate++ {
		taken, err := s.taken(candidate)
		if err != nil {
			return 0, err
		}
		if !taken {
			id = candidate
		}
	}
	a.project, a.flags = id, a.flags|flagInherit
	return id, setAttributes(folder, a)
}

// Join puts a file or folder, open for reading, into the project of another, as if it
// had been made in it.
func (s *FileSystem) Join(f, folder *os.File) error {
	a, err := attributes(folder)
	if err != nil {
		return err
	}
	own, err := attributes(f)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	want := own
	want.project = a.project
	if info.IsDir() {
		want.flags |= flagInherit
	}
	if want == own {
		return nil
	}
	return setAttributes(f, want)
}

// taken tells whether anything is in a project. Zero is the project of what is in
// none, and the highest is XFS's mark of an invalid one.
func (s *FileSystem) taken(id uint32) (bool, error) {
	if id == 0 || id == ^uint32(0) {
		return true, nil
	}
	u, err := usage(s.root, id)
	if errors.Is(err, ErrNone) {
		return false, nil
	}
	return u != Usage{}, err
}

// Usage tells what a folder has of its limit; ErrNone when it is in no project.
func (s *FileSystem) Usage(folder *os.File) (Usage, error) {
	a, err := attributes(folder)
	if err != nil {
		return Usage{}, err
	}
	if a.project == 0 {
		return Usage{}, ErrNone
	}
	return usage(s.root, a.project)
}

// Clear takes the limit of a folder away. Its project stays, and is free again
// when the last file of it has gone.
func (s *FileSystem) Clear(folder *os.File) error {
	a, err := attributes(folder)
	if err != nil || a.project == 0 {
		return err
	}
	if err := setLimit(s.root, a.project, 0); err != nil {
		return fmt.Errorf("taking the limit of %s away: %w", folder.Name(), err)
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

// From <linux/fs.h>: the inode flag that makes new files take the project of the
// folder that they are made in, and the two requests, _IOR and _IOW ('X', 31 and
// 32, struct fsxattr).
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
