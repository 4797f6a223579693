package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// Block keeps many volumes in a pool. Each is a sparse file, which becomes a block device on
// the node that attaches it. The pool is mounted with the graph for blocks, which has strict
// locks: writes through another graph would not be fenced.
type Block struct {
	Root *safepath.Dir // of the mounted pool
	Now  clock         // nil is time.Now
}

// Directories of a pool for block volumes.
const (
	blockTrash   = ondisk.Blocks + "/trash"
	blockArchive = ondisk.Blocks + "/archive"
	blockVolumes = ondisk.BlockVolumes
)

// blockMode is the mode of a volume's file: only the driver accesses it.
const blockMode = 0o600

// ErrInUse reports that a volume is attached to a node.
var ErrInUse = errors.New("the volume is in use")

// Place is the path of a volume with this name below the pool's root, whether it exists or not.
func (Block) Place(name string) string { return hashedDir(blockVolumes, name) + "/" + name }

// Create creates the file, then its record with the size, and then extends the file to that
// size. A file that has no record, or is smaller, is left over from an interrupted call, and is
// completed.
func (b Block) Create(_ context.Context, c CreateRequest) (Volume, error) {
	place := b.Place(c.Name)
	f, err := b.Root.Create(place, blockMode)
	if errors.Is(err, fs.ErrNotExist) {
		// The trash too: a full pool would have no space for it later.
		err = errors.Join(b.Root.MkdirAll(blockTrash, privateMode), b.Root.MkdirAll(path.Dir(place), privateMode))
		if err != nil {
			return Volume{}, fmt.Errorf("create volume %s: %w", c.Name, err)
		}
		f, err = b.Root.Create(place, blockMode)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("create volume %s: %w", c.Name, err)
	}
	defer f.Close()
	r := c.record(b.Now.now())
	if err := r.create(safepath.FromFile(f)); errors.Is(err, fs.ErrExist) {
		if r, err = read(safepath.FromFile(f)); err != nil {
			return Volume{}, fmt.Errorf("volume %s: %w", c.Name, err)
		}
	} else if err != nil {
		return Volume{}, fmt.Errorf("record volume %s: %w", c.Name, err)
	}
	v := r.volume(c.Name)
	if err := v.checkRequest(c); err != nil {
		return Volume{}, err
	}
	return v, extend(f, r)
}

// checkRequest returns an error that describes the existing volume if it does not satisfy the
// request.
func (v Volume) checkRequest(c CreateRequest) error {
	if v.satisfies(c) {
		return nil
	}
	return fmt.Errorf("%w: %s has %d bytes for %s, copied from %s, and was requested as %q", ErrExists, v.Name, v.Size,
		describeUse(v), cmp.Or(v.Source, "nothing"), v.Request)
}

func describeUse(v Volume) string {
	switch {
	case v.Shared:
		return "raw use by several nodes"
	case v.FileSystem == "":
		return "raw use"
	}
	return v.FileSystem
}

// extend extends the file to the size in its record. It never shrinks: a larger file was
// extended by a call that had written a newer record.
func extend(f *os.File, r record) error {
	info, err := f.Stat()
	if err == nil && info.Size() < r.Size {
		err = f.Truncate(r.Size)
	}
	if err != nil {
		return fmt.Errorf("extend volume %s: %w", f.Name(), err)
	}
	return nil
}

// Get reads a volume.
func (b Block) Get(_ context.Context, name string) (Volume, error) {
	e, r, err := b.open(name)
	if err != nil {
		return Volume{}, err
	}
	return r.volume(name), e.Close()
}

// open opens a volume that has a record.
func (b Block) open(name string) (*safepath.Entry, record, error) {
	e, err := b.Root.OpenPath(b.Place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, record{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, record{}, fmt.Errorf("open volume %s: %w", name, err)
	}
	r, err := read(e)
	if err != nil {
		e.Close()
		return nil, record{}, fmt.Errorf("volume %s: %w", name, err)
	}
	return e, r, nil
}

// openRDWR opens the file of a volume for reading and writing, whether it has a record or not.
func (b Block) openRDWR(name string) (*os.File, error) {
	f, err := b.Root.OpenRDWR(b.Place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", name, err)
	}
	return f, nil
}

// Expand raises the size in the record, and then that of the file.
func (b Block) Expand(_ context.Context, name string, size int64) (Volume, error) {
	r, err := b.change(name, func(r *record) bool { return r.grow(size) })
	if err != nil {
		return Volume{}, err
	}
	f, err := b.openRDWR(name)
	if err != nil {
		return Volume{}, err
	}
	defer f.Close()
	return r.volume(name), extend(f, r)
}

// SetReclaim changes the reclaim policy in the record.
func (b Block) SetReclaim(_ context.Context, name string, after schema.Reclaim) (Volume, error) {
	r, err := b.change(name, func(r *record) bool { return r.setReclaim(after) })
	return r.volume(name), err
}

func (b Block) change(name string, edit func(*record) bool) (record, error) {
	e, r, err := b.open(name)
	if err != nil {
		return record{}, err
	}
	defer e.Close()
	if edit(&r) {
		if err := r.replace(e); err != nil {
			return record{}, fmt.Errorf("record volume %s: %w", name, err)
		}
	}
	return r, nil
}

// Rewrite writes the record again. A file is on one set, with all its xattrs.
func (b Block) Rewrite(name string) error {
	e, r, err := b.open(name)
	if err != nil {
		return err
	}
	defer e.Close()
	return r.rewrite(e)
}

// Delete renames the file into the trash or archive in one step, holding its lock: no node has
// it attached then, and none can attach it. ErrInUse while it is attached.
func (b Block) Delete(_ context.Context, name string) error {
	f, err := b.openRDWR(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return b.delete(f, name)
}

func (b Block) delete(f *os.File, name string) error {
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrLocked) {
		return fmt.Errorf("%w: %s", ErrInUse, b.lockedBy(f, name))
	} else if err != nil {
		return err
	}
	place := b.Place(name)
	if same, err := b.isAt(f, place); err != nil || !same {
		return err // another controller has deleted it; a file at its path is another volume
	}
	r, err := read(safepath.FromFile(f))
	if errors.Is(err, ErrNotFound) { // never completed
		return b.Root.Unlink(place)
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	dir, to := r.trashPath(schema.Block, name, b.Now.now())
	if err := b.Root.MkdirAll(dir, privateMode); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	err = b.Root.Rename(place, to)
	if errors.Is(err, unix.ENOSPC) && dir == blockTrash { // no space for another name
		err = b.Root.Unlink(place)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another controller was faster
	}
	return err
}

// List reads all volumes, in no order.
func (b Block) List(ctx context.Context) ([]Volume, error) { return list(ctx, b.Root, blockVolumes) }
