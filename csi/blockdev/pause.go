package blockdev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/mounted"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// quietLimit is how long it may take until a device that is used raw has no write in progress.
const quietLimit = 2 * time.Second

// errWritten reports that a raw device is written without pause.
var errWritten = errors.New("the volume is used raw and written without pause; " +
	"pause its writer: a copy needs a moment without writes")

// pause is a pause of writes to a volume: its file system is frozen. A volume that is used raw
// has none; all that is known of it is whether something was written.
type pause struct {
	device   string   // path
	file     *os.File // the open device, which keeps it this volume's
	root     *os.File // the root of its file system; nil for raw use
	notePath string   // of the note that the file system is frozen; "" for none
	writes   uint64   // completed when the pause began

	mu       sync.Mutex
	freezing bool // freezing it is in progress
	frozen   bool
	ended    bool
	forget   func() // removes it from its attachment
}

// pause pauses a volume. All earlier writes are on the bricks when it returns.
func (m *Manager) pause(ctx context.Context, a *attachment) (*pause, error) {
	a, err := m.acquire(ctx, a.pool, a.name) // another one if it was detached and attached again
	if err != nil {
		return nil, err
	}
	p, file, err := m.registerPause(a)
	m.finish(a)
	if err != nil {
		return nil, err
	}
	if err := p.freeze(m); err != nil {
		p.resume()
		return nil, fmt.Errorf("pause volume %s: %w", a.name, err)
	}
	err = errors.Join(p.file.Sync(), p.waitQuiet(ctx), file.Sync())
	if err != nil {
		p.resume()
		return nil, fmt.Errorf("pause volume %s: %w", a.name, err)
	}
	return p, nil
}

// registerPause notes in a locked attachment that it is about to be paused: if the volume is
// lost, its writers must get an error and not wait. It returns the volume's file too.
func (m *Manager) registerPause(a *attachment) (*pause, *os.File, error) {
	switch {
	case a.lost != nil:
		return nil, nil, a.lost
	case a.locked == nil:
		return nil, nil, fmt.Errorf("%w: %s in pool %s", ErrNotAttached, a.name, a.pool)
	case a.paused != nil:
		return nil, nil, fmt.Errorf("%w: volume %s is being copied", ErrBusy, a.name)
	}
	file, err := loop.Open(a.device.Name(), a.label)
	if err != nil {
		return nil, nil, err
	}
	p := &pause{device: a.device.Name(), file: file}
	if m.Dir != "" {
		p.notePath = filepath.Join(m.frozenDir(), a.label)
	}
	p.forget = func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.paused == p {
			a.paused = nil
		}
	}
	a.paused = p
	return p, a.locked.File, nil
}

// freeze freezes the file system on the device, if one is mounted.
func (p *pause) freeze(m *Manager) error {
	root, at, err := openMount(p.file)
	if err != nil || root == nil {
		return err
	}
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return errors.Join(ErrLost, root.Close())
	}
	p.root, p.freezing = root, true
	p.mu.Unlock()
	err = m.recordFrozen(p.notePath, at)
	if err == nil {
		err = filesystem.Freeze(root)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.freezing, p.frozen = false, err == nil
	if p.ended { // while it was being frozen
		p.thaw()
		return errors.Join(ErrLost, err)
	}
	return err
}

// waitQuiet waits until no write is in progress and records how many were completed.
func (p *pause) waitQuiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	for {
		done, inProgress, err := loop.Writes(p.device)
		if err != nil {
			return err
		}
		if p.writes = done; !inProgress {
			return nil
		}
		select {
		case <-ctx.Done():
			return errWritten
		case <-time.After(time.Millisecond):
		}
	}
}

// outcome reports whether nothing was written since the pause began.
func (p *pause) outcome() (ondisk.State, error) {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	done, inProgress, err := loop.Writes(p.device)
	switch {
	case err != nil:
		return ondisk.Written, err
	case ended:
		return ondisk.Written, ErrLost
	case inProgress || done != p.writes:
		return ondisk.Written, errWritten
	}
	return ondisk.Kept, nil
}

// resume resumes writes. It can be repeated.
func (p *pause) resume() {
	p.end()
	p.forget()
}

// end is resume for callers that have locked the attachment.
func (p *pause) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	if !p.freezing { // otherwise freeze does it
		p.thaw()
	}
}

// thaw thaws the file system if it is frozen, and closes all files.
func (p *pause) thaw() {
	var err error
	if p.frozen {
		err = filesystem.Thaw(p.root)
	}
	if p.root != nil {
		p.root.Close()
	}
	if p.frozen = err != nil; !p.frozen && p.notePath != "" {
		os.Remove(p.notePath) // a leftover note does no harm: thawing twice is no error
	}
	p.file.Close()
}

// frozenDir is the directory of notes about frozen file systems: the kernel keeps them frozen
// when this process ends.
func (m *Manager) frozenDir() string { return filepath.Join(m.Dir, ".frozen") }

// recordFrozen notes where a file system is mounted that is about to be frozen.
func (m *Manager) recordFrozen(notePath, at string) error {
	if notePath == "" {
		return nil
	}
	if err := os.MkdirAll(m.frozenDir(), 0o700); err != nil {
		return fmt.Errorf("note that a file system is frozen: %w", err)
	}
	if err := os.WriteFile(notePath, []byte(at), 0o600); err != nil {
		return fmt.Errorf("note that a file system is frozen: %w", err)
	}
	return nil
}

// thawLeftover thaws what an earlier process has left frozen: its volumes are lost, and their
// writers must get an error instead of waiting forever.
func (m *Manager) thawLeftover() error {
	if m.Dir == "" {
		return nil
	}
	notes, err := os.ReadDir(m.frozenDir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list frozen file systems: %w", err)
	}
	var errs []error
	for _, n := range notes {
		notePath := filepath.Join(m.frozenDir(), n.Name())
		at, err := os.ReadFile(notePath)
		if err == nil {
			err = m.thawAt(string(at))
		}
		if err == nil {
			err = os.Remove(notePath)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (m *Manager) thawAt(at string) error {
	mount, err := mounted.At(at)
	if err != nil || mount == nil || mount.FSType != filesystem.XFS && mount.FSType != filesystem.Ext4 {
		return err
	}
	root, err := os.OpenFile(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.EIO) {
		return nil // it is shut down
	}
	if err != nil {
		return fmt.Errorf("thaw %s: %w", at, err)
	}
	defer root.Close()
	m.Log.Info("thawing a file system that an earlier process left frozen", "path", at)
	return filesystem.Thaw(root)
}
