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

// Subdirectory keeps many volumes in a pool, each a folder. Their places are those
// of the Kadalu operator, subvol/xx/yy/name, so that its volumes can be adopted
// where they are.
type Subdirectory struct {
	Root *safepath.Dir // of the mounted pool
	Now  clock         // nil is time.Now
}

const (
	// hashedMode is of the two folders above volumes.
	hashedMode = 0o755
	// volumeMode lets a pod of any user write; a pod's fsGroup may narrow it.
	// It is set when the volume is made and never again.
	volumeMode = 0o777
)

// hashed is the folder that a volume is in.
func hashed(name string) string { return hashedIn(ondisk.Folder, name) }

// Create makes the folder and then its record. A folder without a record is the
// rest of a call that was cut off, and is finished.
func (s Subdirectory) Create(_ context.Context, c CreateRequest) (Volume, error) {
	d, found, err := s.folder(c.Name)
	if errors.Is(err, fs.ErrNotExist) {
		// It was made, or was there, and is not: another controller is at it.
		return Volume{}, fmt.Errorf("%w: making volume %s: %w", ErrChanged, c.Name, err)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("making volume %s: %w", c.Name, err)
	}
	defer d.Close()
	if found {
		v, err := s.existing(d, c)
		if !errors.Is(err, ErrNotFound) {
			return v, err
		}
	}
	if mode, err := d.Permissions(); err != nil || mode != volumeMode { // the umask may have taken from it
		if err := errors.Join(err, d.Chmod(volumeMode)); err != nil {
			return Volume{}, fmt.Errorf("opening volume %s for its users: %w", c.Name, err)
		}
	}
	r := c.record(s.Now.now())
	if err := r.create(d); errors.Is(err, fs.ErrExist) {
		return s.existing(d, c) // another controller was faster
	} else if err != nil {
		return Volume{}, fmt.Errorf("recording volume %s: %w", c.Name, err)
	}
	return r.volume(c.Name), nil
}

// folder makes a volume's folder, or finds it. The first of the two above it is
// mostly there, the second mostly not.
func (s Subdirectory) folder(name string) (d *safepath.Dir, found bool, err error) {
	parent := hashed(name)
	first, second := path.Split(parent)
	above, err := s.Root.Dir(first)
	if errors.Is(err, fs.ErrNotExist) {
		// The trash too: on a pool that is full, there is no room for it any more.
		if err := errors.Join(s.Root.MkdirAll(trash, ownMode), s.Root.MkdirAll(first, hashedMode)); err != nil {
			return nil, false, err
		}
		above, err = s.Root.Dir(first)
	}
	if err != nil {
		return nil, false, err
	}
	defer above.Close()
	if err := above.Mkdir(second, hashedMode); err != nil && !errors.Is(err, fs.ErrExist) {
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

// existing holds what is there to the claim; ErrNotFound when it is an empty
// folder that only lacks its record.
func (s Subdirectory) existing(d *safepath.Dir, c CreateRequest) (Volume, error) {
	r, err := read(d)
	if errors.Is(err, ErrNotFound) {
		names, err := d.Names()
		if err != nil {
			return Volume{}, fmt.Errorf("listing volume %s: %w", c.Name, err)
		}
		if len(names) > 0 {
			return Volume{}, fmt.Errorf("%w: %s has files and no record; make it a volume with 'atoll volumes adopt', or move it away", ErrForeign, c.Name)
		}
		return Volume{}, ErrNotFound
	}
	if err != nil {
		return Volume{}, err
	}
	if v := r.volume(c.Name); v.fits(c) {
		return v, nil
	}
	return Volume{}, fmt.Errorf("%w: %s has %d bytes and was asked for as %q", ErrExists, c.Name, r.Size, r.Request)
}

// Folder is a volume's place.
func (Subdirectory) Folder(name string) string { return hashed(name) + "/" + name }

// Open opens a volume that has a record.
func (s Subdirectory) Open(name string) (*safepath.Dir, error) {
	d, _, err := s.open(name)
	return d, err
}

func (s Subdirectory) open(name string) (*safepath.Dir, record, error) {
	d, err := s.Root.Dir(s.Folder(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, record{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, record{}, fmt.Errorf("opening volume %s: %w", name, err)
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

// SetReclaim changes the policy in the record.
func (s Subdirectory) SetReclaim(_ context.Context, name string, after schema.Reclaim) (Volume, error) {
	return s.change(name, func(r *record) bool { return r.keep(after) })
}

// change rewrites a record if edit says that it has changed it.
func (s Subdirectory) change(name string, edit func(*record) bool) (Volume, error) {
	d, r, err := s.open(name)
	if err != nil {
		return Volume{}, err
	}
	defer d.Close()
	if edit(&r) {
		if err := r.replace(d); err != nil {
			return Volume{}, fmt.Errorf("recording volume %s: %w", name, err)
		}
	}
	return r.volume(name), nil
}

// Rewrite writes the record again, on all sets.
func (s Subdirectory) Rewrite(name string) error {
	d, r, err := s.open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return r.rewrite(d)
}

// Delete moves the volume aside in one step. The folders above it stay: what
// cleans upwards has deleted other people's data before.
func (s Subdirectory) Delete(_ context.Context, name string) error {
	place := s.Folder(name)
	d, r, err := s.open(name)
	if errors.Is(err, ErrNotFound) {
		// Nothing, or a folder that was never finished; one with files is not ours.
		if err := s.Root.Rmdir(place); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %s has no record and cannot be removed: %w", ErrForeign, name, err)
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	folder, to := r.aside(schema.Subdirectory, name, s.Now.now())
	err = s.Root.Rename(place, to)
	if errors.Is(err, fs.ErrNotExist) { // the first of its kind in this pool
		if err := s.Root.MkdirAll(folder, ownMode); err != nil {
			return fmt.Errorf("making %s: %w", folder, err)
		}
		err = s.Root.Rename(place, to)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another controller was faster
	}
	if err != nil {
		return err
	}
	return s.undoIfOther(d, place, to)
}

// undoIfOther puts back what was moved aside if it is not the volume that was
// meant: a call that was held up may come after others have deleted the volume and
// made a new one of its name.
func (s Subdirectory) undoIfOther(meant *safepath.Dir, place, to string) error {
	moved, err := s.Root.Dir(to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is swept already
	}
	if err != nil {
		return err
	}
	defer moved.Close()
	same, err := moved.Same(meant)
	if same {
		return nil
	}
	return errors.Join(ErrChanged, err, s.Root.Rename(to, place))
}

// List walks the two levels above the volumes.
func (s Subdirectory) List(ctx context.Context) ([]Volume, error) {
	return list(ctx, s.Root, ondisk.Folder)
}
