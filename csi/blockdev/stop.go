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
	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// quietLimit is how long it may take until a device that is used raw has no write under way.
const quietLimit = 2 * time.Second

// errWritten says that a raw device is written all the time.
var errWritten = errors.New("the volume is used raw and written all the time: only who writes can stop that; a copy needs a moment without writes")

// stop is a volume to which nothing is written: its file system is frozen. One that is used
// raw has none; there it is only known whether something was written.
type stop struct {
	device string   // path
	open   *os.File // the device: it stays this volume's
	in     *os.File // the root of its file system; nil for raw use
	note   string   // path of the note that it is frozen, "" for none
	writes uint64   // that were done when it stopped

	mu      sync.Mutex
	busy    bool // it is being frozen
	frozen  bool
	ended   bool
	release func() // forgets it
}

// stop stops a volume. Everything that was written before is on the bricks then.
func (h *Manager) stop(ctx context.Context, one *attachment) (*stop, error) {
	if _, err := h.one(ctx, one.pool, one.name); err != nil {
		return nil, err
	}
	s, file, err := h.register(one)
	one.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := s.freeze(h); err != nil {
		s.goOn()
		return nil, fmt.Errorf("stopping volume %s: %w", one.name, err)
	}
	err = errors.Join(s.open.Sync(), s.quiet(ctx), file.Sync())
	if err != nil {
		s.goOn()
		return nil, fmt.Errorf("stopping volume %s: %w", one.name, err)
	}
	return s, nil
}

// register notes that a volume, which is locked, is about to stop: if it is lost, its
// writers must be told and not wait.
func (h *Manager) register(one *attachment) (*stop, *os.File, error) {
	switch {
	case one.lost != nil:
		return nil, nil, one.lost
	case one.taken == nil:
		return nil, nil, fmt.Errorf("%w: %s in pool %s", ErrOther, one.name, one.pool)
	case one.stopped != nil:
		return nil, nil, fmt.Errorf("%w: a copy of volume %s is being made", ErrBusy, one.name)
	}
	open, err := loop.Open(one.device.Name(), one.label)
	if err != nil {
		return nil, nil, err
	}
	s := &stop{device: one.device.Name(), open: open}
	if h.Dir != "" {
		s.note = filepath.Join(h.frozen(), one.label)
	}
	s.release = func() {
		one.mu.Lock()
		defer one.mu.Unlock()
		if one.stopped == s {
			one.stopped = nil
		}
	}
	one.stopped = s
	return s, one.taken.File, nil
}

// freeze freezes the file system that is on the device, if one is mounted.
func (s *stop) freeze(h *Manager) error {
	in, at, err := mounted(s.open)
	if err != nil || in == nil {
		return err
	}
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return errors.Join(ErrLost, in.Close())
	}
	s.in, s.busy = in, true
	s.mu.Unlock()
	err = h.noteFrozen(s.note, at)
	if err == nil {
		err = filesystem.Freeze(in)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy, s.frozen = false, err == nil
	if s.ended { // while it was being frozen
		s.thaw()
		return errors.Join(ErrLost, err)
	}
	return err
}

// mounted opens the root of the file system that is on a device, and tells where that is; nil
// when none is mounted.
func mounted(device *os.File) (in *os.File, at string, err error) {
	var of unix.Stat_t
	if err := unix.Fstat(int(device.Fd()), &of); err != nil {
		return nil, "", fmt.Errorf("looking at %s: %w", device.Name(), err)
	}
	all, err := mountinfo.All()
	if err != nil {
		return nil, "", err
	}
	for _, m := range all {
		if m.Device != mountinfo.Number(of.Rdev) {
			continue
		}
		f, err := os.OpenFile(m.Target, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return nil, "", fmt.Errorf("opening the file system on %s: %w", device.Name(), err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err == nil && st.Dev == of.Rdev {
			return f, m.Target, nil
		}
		f.Close() // something else is mounted over it
	}
	return nil, "", nil
}

// quiet notes how much was written, at a moment when no write is under way.
func (s *stop) quiet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, quietLimit)
	defer cancel()
	for {
		done, underWay, err := loop.Writes(s.device)
		if err != nil {
			return err
		}
		if s.writes = done; !underWay {
			return nil
		}
		select {
		case <-ctx.Done():
			return errWritten
		case <-time.After(time.Millisecond):
		}
	}
}

// kept tells whether nothing was written since.
func (s *stop) kept() (ondisk.State, error) {
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	done, underWay, err := loop.Writes(s.device)
	switch {
	case err != nil:
		return ondisk.Written, err
	case ended:
		return ondisk.Written, ErrLost
	case underWay || done != s.writes:
		return ondisk.Written, errWritten
	}
	return ondisk.Kept, nil
}

// goOn lets writers go on. It can be repeated.
func (s *stop) goOn() {
	s.end()
	s.release()
}

// end is goOn for who has the volume locked.
func (s *stop) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.ended = true
	if !s.busy { // else who freezes it does so
		s.thaw()
	}
}

// thaw thaws what is frozen and closes all.
func (s *stop) thaw() {
	var err error
	if s.frozen {
		err = filesystem.Thaw(s.in)
	}
	if s.in != nil {
		s.in.Close()
	}
	if s.frozen = err != nil; !s.frozen && s.note != "" {
		os.Remove(s.note) // one that stays is found to be thawed
	}
	s.open.Close()
}

// frozen is the folder of notes on file systems that are frozen: they are so in the kernel,
// and stay it when this process ends.
func (h *Manager) frozen() string { return filepath.Join(h.Dir, ".frozen") }

// noteFrozen notes where a file system is mounted that is about to be frozen.
func (h *Manager) noteFrozen(note, at string) error {
	if note == "" {
		return nil
	}
	if err := os.MkdirAll(h.frozen(), 0o700); err != nil {
		return fmt.Errorf("noting that a file system is frozen: %w", err)
	}
	if err := os.WriteFile(note, []byte(at), 0o600); err != nil {
		return fmt.Errorf("noting that a file system is frozen: %w", err)
	}
	return nil
}

// thawLeft thaws what a former process has left frozen: those who write there are to see that
// its volumes have gone, and not to wait for ever.
func (h *Manager) thawLeft() error {
	if h.Dir == "" {
		return nil
	}
	notes, err := os.ReadDir(h.frozen())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for frozen file systems: %w", err)
	}
	var errs []error
	for _, n := range notes {
		note := filepath.Join(h.frozen(), n.Name())
		at, err := os.ReadFile(note)
		if err == nil {
			err = h.thawAt(string(at))
		}
		if err == nil {
			err = os.Remove(note)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (h *Manager) thawAt(at string) error {
	m, found, err := mountinfo.At(at)
	if err != nil || !found || m.Type != filesystem.XFS && m.Type != filesystem.Ext4 {
		return err
	}
	in, err := os.OpenFile(at, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.EIO) {
		return nil // it is shut down
	}
	if err != nil {
		return fmt.Errorf("thawing %s: %w", at, err)
	}
	defer in.Close()
	h.Log.Info("thawing what a former process has left frozen", "path", at)
	return filesystem.Thaw(in)
}
