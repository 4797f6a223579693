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

// hashedDir is the directory, two levels below dir, that contains a volume.
func hashedDir(dir, name string) string {
	h := fmt.Sprintf("%016x", xxhash.Sum64String(name))
	return dir + "/" + h[0:2] + "/" + h[2:4]
}

// readers is how many directories listAs reads at once: a pool serves requests in parallel.
const readers = 16

// list reads the volumes below a directory, in its hashed directories.
func list(ctx context.Context, root *safepath.Dir, dir string) ([]Volume, error) {
	return listAs(ctx, root, dir, func(e attributes, name string) (Volume, error) {
		r, err := read(e)
		return r.volume(name), err
	})
}

// reader reads the record of a file or directory: ErrNotFound when it has none.
type reader[T any] func(e attributes, name string) (T, error)

// listAs reads the records below a directory, in its hashed directories.
func listAs[T any](ctx context.Context, root *safepath.Dir, dir string, read reader[T]) ([]T, error) {
	var mu sync.Mutex
	var all []T
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	top, err := root.Dir(dir)
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
	// The first error cancels the others, which then return context errors.
	return all, cmp.Or(group.Wait(), err)
}

// listBelow reads the records below one directory of the first level.
func listBelow[T any](ctx context.Context, top *safepath.Dir, first string, read reader[T]) (all []T, err error) {
	err = eachBelow(ctx, top, first, func(second *safepath.Dir, name string) error {
		return eachBelow(ctx, second, name, func(parent *safepath.Dir, name string) error {
			v, err := readEntry(parent, name, read)
			if err == nil {
				all = append(all, v)
			}
			if errors.Is(err, ErrNotFound) || errors.Is(err, ErrRecord) {
				return nil // not a volume, or a record of a newer version
			}
			return err
		})
	})
	return all, err
}

func readEntry[T any](parent *safepath.Dir, name string, read reader[T]) (v T, err error) {
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

// eachBelow calls f for every entry of a directory; none if it does not exist.
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
		return fmt.Errorf("list %s: %w", name, err)
	}
	for _, n := range names {
		if err := f(d, n); err != nil {
			return err
		}
	}
	return nil
}
