package backend

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Source is a volume or a snapshot of which a copy is made. Close it.
type Source struct {
	// Key names it in records: volume/NAME or snapshot/NAME.
	Key string
	// Place is where it is below the pool's root.
	Place string
	Name  string // of the volume, also when this is a snapshot of it
	Size  int64  // bytes
	Used  int64  // bytes that its content takes, counted once
	// FileSystem is what is to be on it, and Formatted what is.
	FileSystem, Formatted string
	// Epoch is how often the volume was attached.
	Epoch int64
	// Held says that a node has the volume, and may be writing to it. Else nobody can take
	// it as long as the source is open.
	Held bool
	Node string // that had it last
	// Shared says that several nodes may have it.
	Shared bool

	file  *os.File // of a volume: with its lock, unless it is held
	inode uint64
	taken ondisk.Attachment // as it was when the source was opened
	nodes []string          // that have, or had, a shared volume then
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
	e, s, err := b.lookSnapshot(name)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	st, err := stat(e.File())
	return &Source{
		Key: SnapshotKey(name), Place: snapshotPlace(name), Name: s.Volume, Size: s.Size, Used: s.Used, FileSystem: s.FileSystem, Formatted: s.Formatted,
		inode: st.Ino,
	}, err
}

// VolumeSource opens a volume to be copied, and takes its lock if nobody has it;
// ErrNotFound.
func (b Block) VolumeSource(name string) (*Source, error) {
	f, err := b.Root.OpenRDWR(b.Place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, fmt.Errorf("opening volume %s: %w", name, err)
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
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrHeld) {
		s.Held = true
	} else if err != nil {
		return nil, err
	}
	if err := b.stillThere(f, name); err != nil {
		return nil, err
	}
	// Read with the lock held: nobody changes it any more.
	r, err := read(safepath.Of(f))
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	if s.taken, s.nodes, err = takers(f); err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	a := s.taken
	s.Size, s.FileSystem, s.Formatted, s.Epoch, s.Node, s.Shared = r.Size, r.FileSystem, a.Formatted, a.Epoch, a.Node, r.Shared
	if !s.Held {
		if err := extend(f, r); err != nil {
			return nil, err
		}
	}
	st, err := stat(f)
	s.Used, s.inode = takes(st, s.Size), st.Ino
	return s, err
}

func stat(f *os.File) (st unix.Stat_t, err error) {
	if err = unix.Fstat(int(f.Fd()), &st); err != nil {
		err = fmt.Errorf("asking what %s is: %w", f.Name(), err)
	}
	return st, err
}

// takers tells who has a volume, or had it last.
func takers(f *os.File) (ondisk.Attachment, []string, error) {
	a, err := attachment(safepath.Of(f))
	if err != nil {
		return a, nil, err
	}
	all, err := holders(safepath.Of(f))
	return a, all.Nodes(), err
}

// Unchanged tells whether nobody has taken the source since it was opened. Its lock says so as
// long as the pool keeps it; this is for those that do not (ADR 0016, Disperse).
func (s *Source) Unchanged() (bool, error) {
	if s.file == nil {
		return true, nil // nobody ever writes to a snapshot
	}
	a, nodes, err := takers(s.file)
	return err == nil && a == s.taken && slices.Equal(nodes, s.nodes), err
}

// Used is what the content of a volume takes, in bytes, counted once; ErrNotFound.
func (b Block) Used(name string) (int64, error) {
	e, r, err := b.look(name)
	if err != nil {
		return 0, err
	}
	defer e.Close()
	st, err := stat(e.File())
	return takes(st, r.Size), err
}

func takes(st unix.Stat_t, size int64) int64 { return min(size, st.Blocks*512) } // blocks of stat(2)

// Freed tells whether a volume that was held is so no more: it is to be opened anew then.
func (s *Source) Freed() (bool, error) {
	held, err := ofd.Held(s.file)
	return err == nil && !held, err
}

// Close gives the volume back.
func (s *Source) Close() error {
	if s.file == nil {
		return nil
	}
	var err error
	if !s.Held {
		err = ofd.Unlock(s.file)
	}
	return errors.Join(err, s.file.Close())
}

// content opens what is to be copied, for reading.
func (b Block) content(s *Source) (*os.File, error) {
	f, err := b.Root.ReadDirect(s.Place)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", s.Key, err)
	}
	return f, nil
}

// note is that of a copy of this source as it is now, of which nothing is done.
func (s *Source) note() ondisk.Copy {
	n := ondisk.Copy{From: s.Place, Inode: s.inode, Epoch: s.Epoch}
	if s.Held || s.Shared {
		n.Epoch = neverAgain
	}
	return n
}

// neverAgain is the epoch of what is copied while a node has it, and of what several nodes may
// have, of which nobody counts who had it: when such a copy was cut off, its source may have
// been written since.
const neverAgain = -1
