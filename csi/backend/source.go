package backend

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Source is a volume or a snapshot that is being copied. Close it.
type Source struct {
	// Key names it in records: volume/NAME or snapshot/NAME.
	Key string
	// Place is its path below the pool's root.
	Place string
	Name  string // of the volume, also if this is a snapshot of it
	Size  int64  // bytes
	Used  int64  // bytes that its content uses on one brick
	// FileSystem is the file system that it is to have, Formatted the one that it has.
	FileSystem, Formatted string
	// Epoch is how often the volume was attached.
	Epoch int64
	// Attached reports that the volume is attached to a node, which may be writing to it.
	// Otherwise no node can attach it while the source is open.
	Attached bool
	Node     string // that it was attached to last
	// Shared allows several nodes to attach it.
	Shared bool

	file     *os.File // of a volume: locked, unless it is attached
	inode    uint64
	attached ondisk.Attachment // when the source was opened
	nodes    []string          // that shared the volume then
}

// Keys of sources in records.
const (
	volumeKey   = "volume/"
	snapshotKey = "snapshot/"
)

// VolumeKey is the Key of a volume as a source.
func VolumeKey(name string) string { return volumeKey + name }

// SnapshotKey is the Key of a snapshot as a source.
func SnapshotKey(name string) string { return snapshotKey + name }

// SnapshotSource opens a snapshot to be copied; ErrNoSnapshot.
func (b Block) SnapshotSource(name string) (*Source, error) {
	e, s, err := b.openSnapshot(name)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	st, err := stat(e.File())
	return &Source{
		Key: SnapshotKey(name), Place: snapshotPlace(name), Name: s.Volume, Size: s.Size, Used: s.Used,
		FileSystem: s.FileSystem, Formatted: s.Formatted, inode: st.Ino,
	}, err
}

// VolumeSource opens a volume to be copied, and locks it if it is not attached; ErrNotFound.
func (b Block) VolumeSource(name string) (*Source, error) {
	f, err := b.openRDWR(name)
	if err != nil {
		return nil, err
	}
	s, err := b.volumeSource(f, name)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (b Block) volumeSource(f *os.File, name string) (*Source, error) {
	s := &Source{Key: VolumeKey(name), Place: b.Place(name), Name: name, file: f}
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrLocked) {
		s.Attached = true
	} else if err != nil {
		return nil, err
	}
	if err := b.checkExists(f, name); err != nil {
		return nil, err
	}
	// If the file is locked, these no longer change.
	r, err := read(safepath.FromFile(f))
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	if s.attached, s.nodes, err = attachments(f); err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	a := s.attached
	s.Size, s.FileSystem, s.Shared = r.Size, r.FileSystem, r.Shared
	s.Formatted, s.Epoch, s.Node = a.Formatted, a.Epoch, a.Node
	if !s.Attached {
		if err := extend(f, r); err != nil {
			return nil, err
		}
	}
	st, err := stat(f)
	s.Used, s.inode = usedBytes(st, s.Size), st.Ino
	return s, err
}

func stat(f *os.File) (st unix.Stat_t, err error) {
	if err = unix.Fstat(int(f.Fd()), &st); err != nil {
		err = fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return st, err
}

// Unchanged reports whether the source was not attached since it was opened. Its lock ensures
// that as long as the pool keeps the lock; this is for pools that do not (ADR 0016, Disperse).
func (s *Source) Unchanged() (bool, error) {
	if s.file == nil {
		return true, nil // snapshots never change
	}
	a, nodes, err := attachments(s.file)
	return err == nil && a == s.attached && slices.Equal(nodes, s.nodes), err
}

// Used returns the bytes that the content of a volume uses on one brick; ErrNotFound.
func (b Block) Used(name string) (int64, error) {
	e, r, err := b.open(name)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	st, err := stat(e.File())
	return usedBytes(st, r.Size), err
}

func usedBytes(st unix.Stat_t, size int64) int64 { return min(size, st.Blocks*512) } // blocks of stat(2)

// Detached reports whether a volume that was attached no longer is: it must be reopened then.
func (s *Source) Detached() (bool, error) {
	locked, err := ofd.Locked(s.file)
	return err == nil && !locked, err
}

// Close unlocks and closes the volume.
func (s *Source) Close() error {
	if s.file == nil {
		return nil
	}
	var err error
	if !s.Attached {
		err = ofd.Unlock(s.file)
	}
	return errors.Join(err, s.file.Close())
}

// content opens the source for reading.
func (b Block) content(s *Source) (*os.File, error) {
	f, err := b.Root.ReadDirect(s.Place)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", s.Key, err)
	}
	return f, nil
}

// note returns the note of a new copy of this source in its present state.
func (s *Source) note() ondisk.Copy {
	n := ondisk.Copy{From: s.Place, Inode: s.inode, Epoch: s.Epoch}
	if s.Attached || s.Shared {
		n.Epoch = neverResume
	}
	return n
}

// neverResume is the epoch in the note of a source that is attached, or that is shared and so
// has no epoch: after such a copy was interrupted, its source may have been written.
const neverResume = -1
