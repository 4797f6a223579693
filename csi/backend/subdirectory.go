package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// Subdirectory keeps many volumes in a pool, each a directory. Their paths are those of the
// Kadalu operator, subvol/xx/yy/name, so that its volumes can be adopted in place.
type Subdirectory struct {
	Root *safepath.Dir // of the mounted pool
	Now  clock         // nil is time.Now
}

const (
	// parentMode is the mode of the two levels of directories above volumes.
	parentMode = 0o755
	// volumeMode lets pods of any user write; a pod's fsGroup may restrict it. It is set once,
	// when the volume is created.
	volumeMode = 0o777
)

// parentDir is the directory that contains a volume.
func parentDir(name string) string { return hashedDir(ondisk.Subdirectories, name) }

// Create creates the directory and then its record. An empty directory without a record is left
// over from an interrupted call, and is completed.
func (s Subdirectory) Create(_ context.Context, c CreateRequest) (Volume, error) {
	d, found, err := s.mkdir(c.Name)
	if errors.Is(err, fs.ErrNotExist) {
		// It existed a moment ago: another controller is deleting it.
		return Volume{}, fmt.Errorf("%w: create volume %s: %w", ErrChanged, c.Name, err)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("create volume %s: %w", c.Name, err)
	}
	defer d.Close()
	if found {
		v, err := s.existing(d, c)
		if !errors.Is(err, ErrNotFound) {
			return v, err
		}
	}
	if mode, err := d.Permissions(); err != nil || mode != volumeMode { // the umask may have cleared bits
		if err := errors.Join(err, d.Chmod(volumeMode)); err != nil {
			return Volume{}, fmt.Errorf("set the mode of volume %s: %w", c.Name, err)
		}
	}
	r := c.record(s.Now.now())
	if err := r.create(d); errors.Is(err, fs.ErrExist) {
		return s.existing(d, c) // another controller was faster
	} else if err != nil {
		return Volume{}, fmt.Errorf("record volume %s: %w", c.Name, err)
	}
	return r.volume(c.Name), nil
}

// mkdir creates a volume's directory, or finds it. Of the two levels above it, the first
// usually exists and the second usually does not.
func (s Subdirectory) mkdir(name string) (d *safepath.Dir, found bool, err error) {
	parent := parentDir(name)
	first, second := path.Split(parent)
	above, err := s.Root.Dir(first)
	if errors.Is(err, fs.ErrNotExist) {
		// The trash too: a full pool would have no space for it later.
		if err := errors.Join(s.Root.MkdirAll(trash, privateMode), s.Root.MkdirAll(first, parentMode)); err != nil {
			return nil, false, err
		}
		above, err = s.Root.Dir(first)
	}
	if err != nil {
		return nil, false, err
	}
	defer above.Close()
	if err := above.Mkdir(second, parentMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, err
	}
	in, err := above.Dir(second)
	if err != nil {
		return nil, false, err
	}
	defer in.Close()
	err = in.Mkdir(name, volumeMode)
	if found = errors.Is(err, fs.ErrExist); err != nil && !found {
		return nil, false, err
	}
	d, err = in.Dir(name)
	return d, found, err
}

// existing checks an existing directory against the request; ErrNotFound when it is empty and
// only lacks its record.
func (s Subdirectory) existing(d *safepath.Dir, c CreateRequest) (Volume, error) {
	r, err := read(d)
	if errors.Is(err, ErrNotFound) {
		names, err := d.Names()
		if err != nil {
			return Volume{}, fmt.Errorf("list volume %s: %w", c.Name, err)
		}
		if len(names) > 0 {
			return Volume{}, fmt.Errorf(
				"%w: %s has files and no record; make it a volume with 'atoll volumes adopt', or move it away",
				ErrForeign, c.Name)
		}
		return Volume{}, ErrNotFound
	}
	if err != nil {
		return Volume{}, err
	}
	if v := r.volume(c.Name); v.satisfies(c) {
		return v, nil
	}
	return Volume{}, fmt.Errorf("%w: %s has %d bytes and was requested as %q", ErrExists, c.Name, r.Size, r.Request)
}

// Place is the path of a volume.
func (Subdirectory) Place(name string) string { return parentDir(name) + "/" + name }

// Open opens a volume that has a record.
func (s Subdirectory) Open(name string) (*safepath.Dir, error) {
	d, _, err := s.open(name)
	return d, err
}

func (s Subdirectory) open(name string) (*safepath.Dir, record, error) {
	d, err := s.Root.Dir(s.Place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, record{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, record{}, fmt.Errorf("open volume %s: %w", name, err)
	}
	r, err := read(d)
	if err != nil {
		d.Close()
		return nil, record{}, fmt.Errorf("volume %s: %w", name, err)
	}
	return d, r, nil
}

// Get reads a volume.
func (s Subdirectory) Get(_ context.Context, name string) (Volume, error) {
	d, r, err := s.open(name)
	if err != nil {
		return Volume{}, err
	}
	defer d.Close()
	return r.volume(name), nil
}

// Expand raises the size in the record.
func (s Subdirectory) Expand(_ context.Context, name string, size int64) (Volume, error) {
	return s.change(name, func(r *record) bool { return r.grow(size) })
}

// SetReclaim changes the reclaim policy in the record.
func (s Subdirectory) SetReclaim(_ context.Context, name string, after schema.Reclaim) (Volume, error) {
	return s.change(name, func(r *record) bool { return r.setReclaim(after) })
}

// change writes the record if edit reports a change.
func (s Subdirectory) change(name string, edit func(*record) bool) (Volume, error) {
	d, r, err := s.open(name)
	if err != nil {
		return Volume{}, err
	}
	defer d.Close()
	if edit(&r) {
		if err := r.replace(d); err != nil {
			return Volume{}, fmt.Errorf("record volume %s: %w", name, err)
		}
	}
	return r.volume(name), nil
}

// Rewrite writes the record again on all sets.
func (s Subdirectory) Rewrite(name string) error {
	d, r, err := s.open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return r.rewrite(d)
}

// Delete renames the volume into the trash or archive in one step. The directories above it
// stay: other operators that removed empty parents have deleted data that way.
func (s Subdirectory) Delete(_ context.Context, name string) error {
	place := s.Place(name)
	d, r, err := s.open(name)
	if errors.Is(err, ErrNotFound) {
		// Nothing, or a directory that was never completed; Atoll did not create one with files.
		if err := s.Root.Rmdir(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s has no record and cannot be removed: %w", ErrForeign, name, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	meant, err := safepath.FromFile(d.File()).ID()
	if errors.Is(err, safepath.ErrGone) {
		return nil // another controller was faster
	}
	if err != nil {
		return err
	}
	dir, to := r.trashPath(schema.Subdirectory, name, s.Now.now())
	err = s.Root.Rename(place, to)
	if errors.Is(err, fs.ErrNotExist) { // dir does not exist yet
		if err := s.Root.MkdirAll(dir, privateMode); err != nil {
			return fmt.Errorf("create %s: %w", dir, err)
		}
		err = s.Root.Rename(place, to)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another controller was faster
	}
	if err != nil {
		return err
	}
	return s.undoIfOther(meant, place, to)
}

// undoIfOther renames the directory back if it is not the volume that was meant: a delayed call
// may come after the volume was deleted and another was created with its name.
func (s Subdirectory) undoIfOther(meant safepath.ID, place, to string) error {
	moved, err := s.Root.OpenPath(to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was swept already
	}
	if err != nil {
		return err
	}
	defer moved.Close()
	id, err := moved.ID()
	if errors.Is(err, safepath.ErrGone) || err == nil && id == meant {
		return nil
	}
	return errors.Join(ErrChanged, err, s.Root.Rename(to, place))
}

// List reads all volumes, in no order.
func (s Subdirectory) List(ctx context.Context) ([]Volume, error) {
	return list(ctx, s.Root, ondisk.Subdirectories)
}
