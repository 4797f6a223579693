// Package pool opens pools: a pool of the catalog, mounted with one of its layouts, is a
// Handle, through which its volumes are reached.
package pool

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

// ErrLayout means that a pool does not serve a layout.
var ErrLayout = errors.New("layout not served")

// Mounter mounts pools.
type Mounter interface {
	// Root returns the directory where a pool is mounted with the graph of a layout. The
	// mount was just verified responsive.
	Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error)
}

// Opener opens pools of a catalog.
type Opener struct {
	Catalog catalog.Folder
	Mounts  Mounter
}

// Handle is an open pool with one of its layouts. Close it.
type Handle struct {
	catalog.Pool
	Layout  schema.Layout
	Root    *safepath.Dir
	Backend backend.Backend
}

// Open reads a pool from the catalog and opens it with a layout, which the pool must serve.
func (o Opener) Open(ctx context.Context, name string, layout schema.Layout) (*Handle, error) {
	p, err := o.Catalog.Pool(name)
	if err != nil {
		return nil, err
	}
	return o.OpenPool(ctx, p, layout)
}

// OpenPool mounts a pool, unless it is mounted, and opens it with a layout, which the pool
// must serve.
func (o Opener) OpenPool(ctx context.Context, p catalog.Pool, layout schema.Layout) (*Handle, error) {
	if !slices.Contains(p.Layouts, layout) {
		return nil, fmt.Errorf("%w: pool %s does not serve %s; add it to spec.volumes of its document", ErrLayout,
			p.Pool, layout)
	}
	path, err := o.Mounts.Root(ctx, p, layout)
	if err != nil {
		return nil, err
	}
	root, err := safepath.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open pool %s: %w", p.Pool, err)
	}
	h := &Handle{Pool: p, Layout: layout, Root: root}
	switch layout {
	case schema.Subdirectory:
		h.Backend = backend.Subdirectory{Root: root}
	case schema.Single:
		h.Backend = backend.Single{Root: root}
	case schema.Block:
		h.Backend = backend.Block{Root: root}
	default:
		return nil, errors.Join(fmt.Errorf("%w: this driver does not know %s", ErrLayout, layout), root.Close())
	}
	return h, nil
}

// Snapshots lists the snapshots of a pool that serves block volumes.
func (o Opener) Snapshots(ctx context.Context, p catalog.Pool) ([]backend.Snapshot, error) {
	h, err := o.OpenPool(ctx, p, schema.Block)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return h.Blocks().Snapshots(ctx)
}

// Close closes the handle. The pool stays mounted.
func (h *Handle) Close() error { return h.Root.Close() }

// Name returns the pool's name.
func (h *Handle) Name() string { return h.Pool.Pool }

// Blocks returns the pool's block volumes, whatever layout the handle has.
func (h *Handle) Blocks() backend.Block { return backend.Block{Root: h.Root} }

// Directories returns the handle's backend as one whose volumes are directories.
func (h *Handle) Directories() (backend.Directories, error) {
	f, ok := h.Backend.(backend.Directories)
	if !ok {
		return nil, fmt.Errorf("%w: volumes with layout %s are not directories", ErrLayout, h.Layout)
	}
	return f, nil
}

// Space returns the pool's total and used space, from statfs(2).
func (h *Handle) Space() (backend.Space, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(h.Root.File().Fd()), &st); err != nil {
		return backend.Space{}, fmt.Errorf("read the space of pool %s: %w", h.Name(), err)
	}
	size := st.Frsize
	return backend.Space{Total: int64(st.Blocks) * size, Used: int64(st.Blocks-st.Bavail) * size}, nil
}
