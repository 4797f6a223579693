package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// Snapshot is the state of a block volume at one moment. It is a separate file: deleting the
// volume does not affect its snapshots.
type Snapshot struct {
	Name    string
	Request string
	Volume  string // name of the volume
	Size    int64  // bytes, of the volume
	Used    int64  // space that its content used when it was created, in bytes
	Created time.Time
	// FileSystem and Formatted are those of the volume.
	FileSystem, Formatted string
}

// ErrNoSnapshot reports that a snapshot does not exist.
var ErrNoSnapshot = errors.New("there is no such snapshot")

func snapshotPlace(name string) string { return hashedDir(ondisk.Snapshots, name) + "/" + name }

// Snapshot reads a snapshot; ErrNoSnapshot.
func (b Block) Snapshot(name string) (Snapshot, error) {
	e, s, err := b.openSnapshot(name)
	if err != nil {
		return s, err
	}
	return s, e.Close()
}

// openSnapshot opens a snapshot and reads it; ErrNoSnapshot.
func (b Block) openSnapshot(name string) (*safepath.Entry, Snapshot, error) {
	e, err := b.Root.OpenPath(snapshotPlace(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Snapshot{}, fmt.Errorf("%w: %s", ErrNoSnapshot, name)
	}
	if err != nil {
		return nil, Snapshot{}, fmt.Errorf("open snapshot %s: %w", name, err)
	}
	s, err := readSnapshot(e, name)
	if errors.Is(err, ErrNotFound) {
		err = ErrNoSnapshot
	}
	if err != nil {
		return nil, s, errors.Join(fmt.Errorf("snapshot %s: %w", name, err), e.Close())
	}
	return e, s, nil
}

// Snapshots reads all snapshots, in no order.
func (b Block) Snapshots(ctx context.Context) ([]Snapshot, error) {
	return listAs(ctx, b.Root, ondisk.Snapshots, readSnapshot)
}

func readSnapshot(e attributes, name string) (Snapshot, error) {
	text, err := e.Attribute(ondisk.SnapshotAttribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return Snapshot{}, ErrNotFound
	}
	if err != nil {
		return Snapshot{}, err
	}
	r, err := ondisk.DecodeSnapshot(text)
	return Snapshot{name, r.Request, r.Volume, r.Size, r.Used, r.Created, r.FileSystem, r.Formatted}, err
}

func (s Snapshot) record() ondisk.Snapshot {
	return ondisk.Snapshot{
		Request: s.Request, Volume: s.Volume, Size: s.Size, Used: s.Used, Created: s.Created.UTC(),
		FileSystem: s.FileSystem, Formatted: s.Formatted,
	}
}

// DeleteSnapshot renames a snapshot into the trash in one step. A snapshot that does not exist
// is no error. Readers that have it open can continue to read.
func (b Block) DeleteSnapshot(name string) error {
	if err := b.Root.MkdirAll(blockTrash, privateMode); err != nil {
		return fmt.Errorf("create %s: %w", blockTrash, err)
	}
	_, to := record{}.trashPath(schema.Block, name, b.Now.now())
	err := b.Root.Rename(snapshotPlace(name), to)
	if errors.Is(err, unix.ENOSPC) { // no space for another name
		err = b.Root.Unlink(snapshotPlace(name))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete snapshot %s: %w", name, err)
	}
	return nil
}
