package blockdev

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Attach attaches a volume to this node, or finds it attached. backend.ErrInUse while it is
// attached to another node.
func (m *Manager) Attach(ctx context.Context, pool, name string) (Device, error) {
	if !volumeid.IsPart(name) { // it becomes part of a path
		return Device{}, fmt.Errorf("%w: %q cannot be a volume's name", backend.ErrNotFound, name)
	}
	p, err := m.Catalog.Pool(pool)
	if err != nil {
		return Device{}, err
	}
	a, err := m.acquire(ctx, pool, name)
	if err != nil {
		return Device{}, err
	}
	defer m.finish(a)
	if a.locked != nil && a.lost == nil {
		d, err := a.describe()
		if err == nil {
			return d, nil
		}
		m.markLost(a, err)
	}
	if a.device != nil { // lost
		if err := m.release(ctx, a); err != nil {
			return Device{}, err
		}
	}
	path, err := m.Pools.Root(ctx, p, schema.Block)
	if err != nil {
		return Device{}, err
	}
	root, err := safepath.Open(path)
	if err != nil {
		return Device{}, fmt.Errorf("open pool %s: %w", p.Pool, err)
	}
	defer root.Close()
	if err := m.initLocks(p, a); err != nil {
		return Device{}, err
	}
	locked, err := backend.Block{Root: root}.Lock(name)
	if err != nil {
		return Device{}, err
	}
	a.of = p
	if err := m.attach(ctx, a, locked); err != nil {
		return Device{}, errors.Join(err, locked.Close())
	}
	return a.describe()
}

// attach creates the device of a locked volume.
func (m *Manager) attach(ctx context.Context, a *attachment, locked *backend.LockedVolume) error {
	if before := locked.Previous; before.Node != "" {
		m.collectors().takeover.WithLabelValues(a.pool).Inc()
		m.Log.Info("taking over a volume that was not detached", "pool", a.pool, "volume", a.name, "node", before.Node,
			"since", before.Since, "epoch", before.Epoch)
		select {
		case <-ctx.Done():
			return fmt.Errorf("take over volume %s: %w", a.name, ctx.Err())
		case <-time.After(takeoverGrace):
		}
		if err := ofd.Lock(locked.File); err != nil {
			return fmt.Errorf("%w: take over volume %s: %w", backend.ErrInUse, a.name, err)
		}
	}
	if err := locked.Attach(m.Node, bootID(), nil); err != nil {
		return err
	}
	device, err := loop.AttachAs(locked.File, a.label, deviceFlags, usable)
	if err != nil {
		return err
	}
	a.locked, a.device, a.closed, a.lost, a.fenced = locked, device, false, nil, false
	path := device.Name()
	a.path.Store(&path)
	a.attached.Store(true)
	m.Log.Info("attached a volume", "pool", a.pool, "volume", a.name, "device", device.Name(),
		"epoch", locked.Attachment().Epoch)
	return nil
}

func (a *attachment) describe() (Device, error) {
	v, noted := a.locked.Volume, a.locked.Attachment()
	info, err := a.locked.File.Stat()
	if err != nil {
		return Device{}, fmt.Errorf("read the size of volume %s: %w", a.name, err)
	}
	return Device{
		Path: a.device.Name(), Label: a.label, Size: info.Size(), Epoch: noted.Epoch,
		FileSystem: v.FileSystem, FormatOptions: v.FormatOptions, Formatted: noted.Formatted, Shared: v.Shared,
	}, nil
}

// withAttached calls do with the attachment of an attached volume, locked.
func (m *Manager) withAttached(ctx context.Context, pool, name string, do func(*attachment) error) (Device, error) {
	a, err := m.acquire(ctx, pool, name)
	if err != nil {
		return Device{}, err
	}
	defer m.finish(a)
	switch {
	case a.lost != nil:
		return Device{}, a.lost
	case a.locked == nil:
		return Device{}, fmt.Errorf("%w: %s in pool %s", ErrNotAttached, name, pool)
	}
	if err := do(a); err != nil {
		return Device{}, err
	}
	return a.describe()
}

// MarkFormatted records that a file system was created on a volume, completely.
func (m *Manager) MarkFormatted(ctx context.Context, pool, name, fileSystem string) error {
	_, err := m.withAttached(ctx, pool, name, func(a *attachment) error { return a.locked.MarkFormatted(fileSystem) })
	return err
}

// Grow grows the device to the size that the volume has now.
func (m *Manager) Grow(ctx context.Context, pool, name string) (Device, error) {
	return m.withAttached(ctx, pool, name, func(a *attachment) error {
		if err := a.locked.Extend(); err != nil {
			return err
		}
		a.reopen()
		return loop.Refresh(a.device)
	})
}
