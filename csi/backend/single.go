package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Single is the layout of a pool with one volume. The record is on the pool's root, and
// the first volume to set it owns the pool.
type Single struct {
	Root *safepath.Dir
	Now  clock // nil is time.Now
}

// Create makes the pool the volume, with its data; ErrExhausted names the volume that owns it.
func (s Single) Create(_ context.Context, c CreateRequest) (Volume, error) {
	r := c.record(s.Now.now())
	err := r.create(s.Root)
	if err == nil {
		return r.volume(c.Name), nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return Volume{}, fmt.Errorf("record volume %s: %w", c.Name, err)
	}
	owner, err := read(s.Root)
	if err != nil {
		return Volume{}, err
	}
	if owner.Request != c.Request {
		return Volume{}, fmt.Errorf("%w: the whole pool is the volume %s; delete that claim, or use another pool",
			ErrExhausted, owner.Request)
	}
	if v := owner.volume(c.Name); v.satisfies(c) {
		return v, nil
	}
	return Volume{}, fmt.Errorf("%w: it has %d bytes", ErrExists, owner.Size)
}

// owner reads the record if it belongs to this volume.
func (s Single) owner(name string) (record, error) {
	r, err := read(s.Root)
	if err != nil {
		return r, err
	}
	if nameOf(r) != name {
		return r, fmt.Errorf("%w: the whole pool is the volume %s", ErrNotFound, r.Request)
	}
	return r, nil
}

// nameOf returns the volume's name, which is not part of its path.
func nameOf(r record) string { return volumeid.Name(r.Request) }

// Get reads the volume.
func (s Single) Get(_ context.Context, name string) (Volume, error) {
	r, err := s.owner(name)
	return r.volume(name), err
}

// Place is the pool's root.
func (Single) Place(string) string { return "" }

// Open opens the pool's root.
func (s Single) Open(name string) (*safepath.Dir, error) {
	if _, err := s.owner(name); err != nil {
		return nil, err
	}
	return s.Root.Dir(".")
}

// Expand raises the size in the record; the size of the pool does not change.
func (s Single) Expand(_ context.Context, name string, size int64) (Volume, error) {
	return s.change(name, func(r *record) bool { return r.grow(size) })
}

// SetReclaim changes the reclaim policy in the record.
func (s Single) SetReclaim(_ context.Context, name string, after schema.Reclaim) (Volume, error) {
	return s.change(name, func(r *record) bool { return r.setReclaim(after) })
}

// Rewrite writes the record again on all sets.
func (s Single) Rewrite(name string) error {
	r, err := s.owner(name)
	if err != nil {
		return err
	}
	return r.rewrite(s.Root)
}

func (s Single) change(name string, edit func(*record) bool) (Volume, error) {
	r, err := s.owner(name)
	if err == nil && edit(&r) {
		err = r.replace(s.Root)
	}
	return r.volume(name), err
}

// Delete renames everything into the trash or archive and then removes the record. A repeat
// continues an interrupted call: the record is removed last.
func (s Single) Delete(ctx context.Context, name string) error {
	r, err := s.owner(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, to := r.trashPath(schema.Single, name, s.Now.now())
	if err := s.Root.MkdirAll(to, privateMode); err != nil {
		return fmt.Errorf("create %s: %w", to, err)
	}
	names, err := s.Root.Names()
	if err != nil {
		return fmt.Errorf("list the pool: %w", err)
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n == atollDir || n == trashOfGluster {
			continue
		}
		if err := s.Root.Rename(n, to+"/"+n); err != nil {
			return err
		}
	}
	return s.Root.RemoveAttribute(ondisk.Attribute)
}

// trashOfGluster is a directory of GlusterFS in the root of a volume.
const trashOfGluster = ".trashcan"

// List returns the volume, if there is one.
func (s Single) List(context.Context) ([]Volume, error) {
	r, err := read(s.Root)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []Volume{r.volume(nameOf(r))}, nil
}
