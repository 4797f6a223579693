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

// Single makes the whole pool one volume. The record is on the pool's root, and
// setting it where there is none decides who has the pool.
type Single struct {
	Root *safepath.Dir
	Now  clock // nil is time.Now
}

// Create takes the pool, with the data that is in it; ErrExhausted names the holder.
func (s Single) Create(_ context.Context, c CreateRequest) (Volume, error) {
	r := c.record(s.Now.now())
	err := r.create(s.Root)
	if err == nil {
		return r.volume(c.Name), nil
	}
	if !errors.Is(err, fs.ErrExist) {
		return Volume{}, fmt.Errorf("taking the pool: %w", err)
	}
	holder, err := read(s.Root)
	if err != nil {
		return Volume{}, err
	}
	if holder.Request != c.Request {
		return Volume{}, fmt.Errorf("%w: the whole pool is the volume %s; delete that claim, or use another pool", ErrExhausted, holder.Request)
	}
	if v := holder.volume(c.Name); v.fits(c) {
		return v, nil
	}
	return Volume{}, fmt.Errorf("%w: it has %d bytes", ErrExists, holder.Size)
}

// holder reads the record if it is of this volume.
func (s Single) holder(name string) (record, error) {
	r, err := read(s.Root)
	if err != nil {
		return r, err
	}
	if nameOf(r) != name {
		return r, fmt.Errorf("%w: the pool is held by %s", ErrNotFound, r.Request)
	}
	return r, nil
}

// nameOf is the volume's name, which the root folder does not carry.
func nameOf(r record) string { return volumeid.Name(r.Request) }

// Get reads the volume.
func (s Single) Get(_ context.Context, name string) (Volume, error) {
	r, err := s.holder(name)
	return r.volume(name), err
}

// Folder is the pool's root.
func (Single) Folder(string) string { return "" }

// Open opens the pool's root.
func (s Single) Open(name string) (*safepath.Dir, error) {
	if _, err := s.holder(name); err != nil {
		return nil, err
	}
	return s.Root.Dir(".")
}

// Expand raises the size in the record; the pool is as large as it is.
func (s Single) Expand(_ context.Context, name string, size int64) (Volume, error) {
	return s.change(name, func(r *record) bool { return r.grow(size) })
}

// SetReclaim changes the policy in the record.
func (s Single) SetReclaim(_ context.Context, name string, after schema.Reclaim) (Volume, error) {
	return s.change(name, func(r *record) bool { return r.keep(after) })
}

// Rewrite writes the record again, on all sets.
func (s Single) Rewrite(name string) error {
	r, err := s.holder(name)
	if err != nil {
		return err
	}
	return r.rewrite(s.Root)
}

func (s Single) change(name string, edit func(*record) bool) (Volume, error) {
	r, err := s.holder(name)
	if err == nil && edit(&r) {
		err = r.replace(s.Root)
	}
	return r.volume(name), err
}

// Delete moves everything aside, and then gives the pool free. Cut off, it goes on
// where it was: the record is the last to go.
func (s Single) Delete(ctx context.Context, name string) error {
	r, err := s.holder(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, to := r.aside(schema.Single, name, s.Now.now())
	if err := s.Root.MkdirAll(to, ownMode); err != nil {
		return fmt.Errorf("making %s: %w", to, err)
	}
	names, err := s.Root.Names()
	if err != nil {
		return fmt.Errorf("listing the pool: %w", err)
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if n == own || n == trashOfGluster {
			continue
		}
		if err := s.Root.Rename(n, to+"/"+n); err != nil {
			return err
		}
	}
	return s.Root.RemoveAttribute(ondisk.Attribute)
}

// trashOfGluster is a folder that GlusterFS itself keeps at a volume's root.
const trashOfGluster = ".trashcan"

// List gives the volume, if there is one.
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
