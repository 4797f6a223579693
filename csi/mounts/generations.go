package mounts

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
)

// Generations calls the mount servers of this node: the newest for all that begins, and for what exists
// the one that has it. See Generation.
type Generations struct {
	current, sockets string

	mu      sync.Mutex
	remotes map[string]*Remote // by socket
}

// NewGenerations returns the Generations whose newest is at the path current, a link or, for a server
// without generations, a socket; sockets is the directory with those of all. Servers may start later.
func NewGenerations(current, sockets string) *Generations {
	return &Generations{current: current, sockets: sockets, remotes: map[string]*Remote{}}
}

// Close closes idle connections.
func (g *Generations) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.remotes {
		r.Close()
	}
}

func (g *Generations) remote(socket string) *Remote {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.remotes[socket]
	if r == nil {
		r = NewRemote(socket)
		g.remotes[socket] = r
	}
	return r
}

// newestSocket is the socket of the newest server.
func (g *Generations) newestSocket() string {
	target, err := os.Readlink(g.current)
	if err != nil {
		return g.current // it has not started yet, or has no generations
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(g.current), target)
	}
	return target
}

func (g *Generations) newest() *Remote { return g.remote(g.newestSocket()) }

// older lists the other servers that run.
func (g *Generations) older(ctx context.Context) ([]*Remote, error) {
	sockets, err := filepath.Glob(filepath.Join(g.sockets, "*"+socketSuffix))
	if err != nil {
		return nil, fmt.Errorf("list the mount servers of this node: %w", err)
	}
	newest := g.newestSocket()
	var all []*Remote
	for _, socket := range sockets {
		if socket != newest && listens(ctx, socket) {
			all = append(all, g.remote(socket))
		}
	}
	g.forget(append(sockets, newest))
	return all, nil
}

// forget drops the servers whose sockets do not exist any more.
func (g *Generations) forget(existing []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for socket, r := range g.remotes {
		if !slices.Contains(existing, socket) {
			r.Close()
			delete(g.remotes, socket)
		}
	}
}

// HasOlder reports whether another server than the newest runs.
func (g *Generations) HasOlder(ctx context.Context) bool {
	older, err := g.older(ctx)
	return err == nil && len(older) > 0
}

// Root returns the directory where the newest server has mounted a pool.
func (g *Generations) Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error) {
	return g.newest().Root(ctx, p, layout)
}

// Devices returns the devices of all clients that run, as mountinfo names them, and whether they answer.
// An error means that some may be missing.
func (g *Generations) Devices(ctx context.Context) (map[string]bool, error) {
	older, err := g.older(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	for _, r := range append(older, g.newest()) {
		devices, err := r.Devices(ctx)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, devices)
	}
	return all, nil
}

// Lost lists block volumes that this node has lost and that are still in use, and the devices of all
// servers.
func (g *Generations) Lost(ctx context.Context) (blockdev.Losses, error) {
	older, err := g.older(ctx)
	if err != nil {
		return blockdev.Losses{}, err
	}
	all, err := g.newest().Lost(ctx)
	if err != nil {
		return all, err
	}
	for _, r := range older {
		of, err := r.Lost(ctx)
		if err != nil {
			return of, err
		}
		all.Lost = append(all.Lost, of.Lost...)
		all.Attached = append(all.Attached, of.Attached...)
	}
	return all, nil
}

// holder is the server to which a volume is attached, or the newest.
func (g *Generations) holder(ctx context.Context, pool, name string) (*Remote, error) {
	older, err := g.older(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range older {
		all, err := r.Lost(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range all.Attached {
			if a.Pool == pool && a.Name == name {
				return r, nil
			}
		}
	}
	return g.newest(), nil
}

// Attach attaches a block volume to this node: see blockdev.Manager.
func (g *Generations) Attach(ctx context.Context, pool, name string) (blockdev.Device, error) {
	r, err := g.holder(ctx, pool, name)
	if err != nil {
		return blockdev.Device{}, err
	}
	return r.Attach(ctx, pool, name)
}

// Detach detaches a block volume.
func (g *Generations) Detach(ctx context.Context, pool, name string) error {
	r, err := g.holder(ctx, pool, name)
	if err != nil {
		return err
	}
	return r.Detach(ctx, pool, name)
}

// MarkFormatted records that a file system was created on a block volume.
func (g *Generations) MarkFormatted(ctx context.Context, pool, name, fileSystem string) error {
	r, err := g.holder(ctx, pool, name)
	if err != nil {
		return err
	}
	return r.MarkFormatted(ctx, pool, name, fileSystem)
}

// Grow grows a device to the size of its volume.
func (g *Generations) Grow(ctx context.Context, pool, name string) (blockdev.Device, error) {
	r, err := g.holder(ctx, pool, name)
	if err != nil {
		return blockdev.Device{}, err
	}
	return r.Grow(ctx, pool, name)
}
