package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
)

// hashedIn is the folder, two levels below another, that a volume is in.
func hashedIn(folder, name string) string {
	h := fmt.Sprintf("%016x", xxhash.Sum64String(name))
	return folder + "/" + h[0:2] + "/" + h[2:4]
}

// readers is how many folders list reads at once: a pool answers in parallel.
const readers = 16

// list reads the volumes below a folder, two levels down.
func list(ctx context.Context, root *safepath.Dir, folder string) ([]Volume, error) {
	return listAs(ctx, root, folder, func(e attributes, name string) (Volume, error) {
		r, err := read(e)
		return r.volume(name), err
	})
}

// reader reads what is written on a file or folder: ErrNotFound when that is nothing.
type reader[T any] func(e attributes, name string) (T, error)

// listAs reads what is below a folder, two levels down.
func listAs[T any](ctx context.Context, root *safepath.Dir, folder string, read reader[T]) ([]T, error) {
	var mu sync.Mutex
	var all []T
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	top, err := root.Dir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer top.Close()
	err = eachBelow(ctx, top, ".", func(_ *safepath.Dir, first string) error {
		group.Go(func() error {
			found, err := listBelow(ctx, top, first, read)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, found...)
			return err
		})
		return nil
	})
	// The first error ends the others with one of its own.
	return all, cmp.Or(group.Wait(), err)
}

// listBelow lists what is below one of the first folders.
func listBelow[T any](ctx context.Context, top *safepath.Dir, first string, read reader[T]) (all []T, err error) {
	err = eachBelow(ctx, top, first, func(second *safepath.Dir, name string) error {
		return eachBelow(ctx, second, name, func(parent *safepath.Dir, name string) error {
			v, err := listedIn(parent, name, read)
			if err == nil {
				all = append(all, v)
			}
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrRecord) {
				return nil // not a volume, or not one that this program understands
			}
			return err
		})
	})
	return all, err
}

func listedIn[T any](parent *safepath.Dir, name string, read reader[T]) (v T, err error) {
	d, err := parent.OpenPath(name)
	if errors.Is(err, fs.ErrNotExist) {
		return v, ErrNotFound
	}
	if err != nil {
		return v, err
	}
	defer d.Close()
	return read(d, name)
}

// eachBelow calls f for every entry of a folder; one that is not there has none.
func eachBelow(ctx context.Context, at *safepath.Dir, name string, f func(*safepath.Dir, string) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d, err := at.Dir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Names()
	if err != nil {
		return fmt.Errorf("listing %s: %w", name, err)
	}
	for _, n := range names {
		if err := f(d, n); err != nil {
			return err
		}
	}
	return nil
}
