package safepath

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// RemoveAll removes a directory with its content, without following links and without leaving
// its file system. It may be interrupted and repeated. It calls removed for every entry that it
// has removed.
func (d *Dir) RemoveAll(ctx context.Context, name string, removed func()) error {
	err := d.Unlink(name)
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		removed()
		return nil
	case !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM):
		return err
	}
	if err := d.empty(ctx, name, removed); err != nil {
		return err
	}
	err = d.Rmdir(name)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		removed()
		return nil
	}
	return err
}

// empty removes the content of a directory. Listings of a directory that changes may miss
// entries, so it is listed until it is empty.
func (d *Dir) empty(ctx context.Context, name string, removed func()) error {
	inner, err := d.Dir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer inner.Close()
	for {
		names, err := inner.Names()
		if err != nil || len(names) == 0 {
			return err
		}
		for _, n := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := inner.RemoveAll(ctx, n, removed); err != nil {
				return err
			}
		}
	}
}
