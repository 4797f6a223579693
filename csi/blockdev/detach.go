package blockdev

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atoll-storage/atoll/internal/linux/loop"
)

// Detach detaches a volume. A volume that is not attached is no error. ErrOpen while its
// device is in use.
func (m *Manager) Detach(ctx context.Context, pool, name string) error {
	a, err := m.acquire(ctx, pool, name)
	if err != nil {
		return err
	}
	defer m.finish(a)
	if a.device == nil {
		return nil
	}
	if a.paused != nil {
		return fmt.Errorf("%w: volume %s is being copied", ErrBusy, name)
	}
	return m.release(ctx, a)
}

// releaseLimit is how long the kernel may take to detach a device.
const releaseLimit = 5 * time.Second

// release detaches the device, and then the volume. The file's lock ends when the file
// description is closed everywhere; the device is the last to close it.
func (m *Manager) release(ctx context.Context, a *attachment) error {
	path := a.device.Name()
	a.reopen()
	if at, err := mountedAt(path); err != nil {
		return err
	} else if at != "" {
		return fmt.Errorf("%w: %s of volume %s is mounted at %s", ErrOpen, path, a.name, at)
	}
	if a.lost == nil && !a.closed {
		if err := errors.Join(a.device.Sync(), a.locked.File.Sync()); err != nil {
			m.Log.Info("could not sync a volume before it was detached", "volume", a.name, "error", err.Error())
		}
	}
	if err := m.clearDevice(ctx, a); err != nil {
		return err
	}
	locked, lost := a.locked, a.lost
	record := locked.Detach
	if lost != nil {
		record = locked.RemoveHolder
	}
	a.device, a.closed, a.locked, a.lost = nil, false, nil, nil
	a.path.Store(nil)
	a.attached.Store(false)
	if err := record(); err != nil {
		m.Log.Info("could not record that a volume was detached", "volume", a.name, "error", err.Error())
	}
	m.Log.Info("detached a volume", "pool", a.pool, "volume", a.name, "device", path)
	if err := locked.Close(); err != nil && lost == nil {
		return fmt.Errorf("close volume %s: %w", a.name, err)
	}
	return nil
}

// clearDevice detaches the device and waits until it has no file. The kernel clears it when
// the last process closes it, which may be one that only inspects devices.
func (m *Manager) clearDevice(ctx context.Context, a *attachment) error {
	path := a.device.Name()
	if !a.closed {
		if err := errors.Join(loop.Detach(a.device), a.device.Close()); err != nil {
			return err
		}
		a.closed = true
	}
	ctx, cancel := context.WithTimeout(ctx, releaseLimit)
	defer cancel()
	for loop.Attached(path, a.label) {
		select {
		case <-ctx.Done():
			a.reopen() // it stays the volume's
			return fmt.Errorf("%w: %s of volume %s (%w)", ErrOpen, path, a.name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// reopen opens the device again that an unfinished clearDevice has closed. It may fail for a while,
// such as while the pool does not respond.
func (a *attachment) reopen() {
	if !a.closed {
		return
	}
	if device, err := loop.Open(a.device.Name(), a.label); err == nil {
		a.device, a.closed = device, false
	}
}
