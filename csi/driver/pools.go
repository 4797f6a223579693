package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
)

// opened is a pool that is mounted, with one of its layouts. Close it.
type opened struct {
	catalog.Pool
	layout  schema.Layout
	root    *safepath.Dir
	backend backend.Backend
}

func (o *opened) Close() error { return o.root.Close() }

// open mounts a pool, or finds it mounted, for a layout that it must serve.
func (d *Driver) open(ctx context.Context, name string, layout schema.Layout) (*opened, error) {
	p, err := d.Catalog.Pool(name)
	if err != nil {
		return nil, err
	}
	return d.openPool(ctx, p, layout)
}

func (d *Driver) openPool(ctx context.Context, p catalog.Pool, layout schema.Layout) (*opened, error) {
	if !slices.Contains(p.Layouts, layout) {
		return nil, invalid("pool %s does not serve %s; its document lists the layouts in spec.volumes", p.Pool, layout)
	}
	path, err := d.Mounts.Root(ctx, p, layout)
	if err != nil {
		return nil, err
	}
	root, err := safepath.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening pool %s: %w", p.Pool, err)
	}
	o := &opened{Pool: p, layout: layout, root: root}
	switch layout {
	case schema.Subdirectory:
		o.backend = backend.Subdirectory{Root: root}
	case schema.Single:
		o.backend = backend.Single{Root: root}
	case schema.Block:
		o.backend = backend.Block{Root: root}
	default:
		return nil, errors.Join(invalid("the layout %s is not served by this driver", layout), root.Close())
	}
	return o, nil
}

// blocks are the volumes of blocks of the pool, whatever layout it was opened with.
func (o *opened) blocks() backend.Block { return backend.Block{Root: o.root} }

// folders are the volumes of a layout that keeps them as folders.
func (o *opened) folders() (backend.Folders, error) {
	f, are := o.backend.(backend.Folders)
	if !are {
		return nil, invalid("volumes of layout %s are not folders", o.layout)
	}
	return f, nil
}

// space asks the pool what it has.
func (o *opened) space() (backend.Space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(o.root.File().Fd()), &st); err != nil {
		return backend.Space{}, fmt.Errorf("asking pool %s for its space: %w", o.Pool.Pool, err)
	}
	size := st.Frsize
	return backend.Space{Total: int64(st.Blocks) * size, Used: int64(st.Blocks-st.Bavail) * size}, nil
}
