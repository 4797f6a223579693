// Package blockdev gives a node the block volumes that are its to have, as loop devices. A
// volume is taken by locking its file, and the device is made of the very file description
// that has the lock: when the lock is lost at the bricks, so is the way to them.
package blockdev

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Pools are the mounts of a node.
type Pools interface {
	Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error)
	Running(p catalog.Pool, layout schema.Layout) (string, error)
	Connections(p catalog.Pool, layout schema.Layout) (graph string, all []gluster.Connection, err error)
	Renew(ctx context.Context, p catalog.Pool, layout schema.Layout) error
}

// Device is a volume that this node has.
type Device struct {
	Path  string `json:"path"`  // such as /dev/loop7
	Label string `json:"label"` // see loop.Open
	Size  int64  `json:"size"`  // bytes
	Epoch int64  `json:"epoch"` // how often the volume was attached
	// FileSystem is to be on it, or "" for raw use; Formatted is what was made on it.
	FileSystem    string `json:"fileSystem,omitempty"`
	FormatOptions string `json:"formatOptions,omitempty"`
	Formatted     string `json:"formatted,omitempty"`
	// Shared says that other nodes may have the volume too, as its record has it.
	Shared bool `json:"shared,omitempty"`
}

// Errors.
var (
	ErrBusy  = errors.New("another call for this volume is under way")
	ErrOpen  = errors.New("the volume's device is still open")
	ErrLost  = errors.New("the volume was lost: its lock at the bricks has gone, and another node may have it")
	ErrOther = errors.New("the volume is not attached to this node")
)

// takeoverGrace is how long a volume is held before it is used, when a node has it that did
// not give it back. Who has just been cut off, and comes back at this moment, has that long
// to notice.
const takeoverGrace = 3 * time.Second

// Manager has the volumes of a node. What it has ends with it: its clients do.
type Manager struct {
	Pools   Pools
	Catalog catalog.Folder
	Node    string
	// Dir is the folder of the node's mounts: with the node's name, devices are known by it.
	Dir string
	Log logr.Logger

	metrics metrics

	mu   sync.Mutex
	held map[string]*attachment
	seen map[string]locked // by pool
	asks sync.Map          // questions that are known, by askKey
}

// attachment is one volume. Its lock is held while it is worked on.
type attachment struct {
	mu     sync.Mutex
	pool   string
	name   string
	label  string
	taken  *backend.LockedVolume // nil: it is not attached
	device *os.File
	lost   error // why nothing goes to the volume any more
	fenced bool  // the device lets nothing through
	// stopped is not nil while the volume stands still for a copy.
	stopped *stop

	attached atomic.Bool // for those who do not hold the lock
}

// deviceFlags are those of all devices: they go when nobody has them open any more, and do
// not keep a second copy of what is written in memory.
const deviceFlags = loop.AutoClear | loop.DirectIO

// busyLimit is how long a call waits for another one, or for Keep, which has a volume for
// a moment when a brick is back.
const busyLimit = 5 * time.Second

// one finds a volume and locks it, or ErrBusy.
func (h *Manager) one(ctx context.Context, pool, name string) (*attachment, error) {
	h.mu.Lock()
	if h.held == nil {
		h.held = map[string]*attachment{}
	}
	key := pool + "/" + name
	if h.held[key] == nil {
		h.held[key] = &attachment{pool: pool, name: name, label: h.label(key)}
	}
	one := h.held[key]
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, busyLimit)
	defer cancel()
	for !one.mu.TryLock() {
		select {
		case <-ctx.Done():
			return nil, ErrBusy
		case <-time.After(10 * time.Millisecond):
		}
	}
	return one, nil
}

// label is what the devices of a volume are called on this node. Several nodes may share a
// kernel.
func (h *Manager) label(key string) string {
	sum := sha256.Sum256([]byte(key))
	return h.prefix() + hex.EncodeToString(sum[:12])
}

// prefix is of all labels of this node.
func (h *Manager) prefix() string {
	sum := sha256.Sum256([]byte(h.Node + " " + h.Dir))
	return "atoll-" + hex.EncodeToString(sum[:6]) + "-"
}

// Start detaches what a former process has left: its clients have ended with it, so nothing
// is behind those devices. One that is mounted goes when it is unmounted.
func (h *Manager) Start() error {
	if err := h.thawLeft(); err != nil {
		return err
	}
	left, err := loop.Labelled(func(label string) bool { return strings.HasPrefix(label, h.prefix()) })
	if err != nil {
		return fmt.Errorf("looking for devices of a former process: %w", err)
	}
	for _, device := range left {
		d, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		h.Log.Info("detaching what a former process has left", "device", device)
		err = errors.Join(err, loop.Detach(d), d.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

// Attach takes a volume for this node, or finds it taken. backend.ErrInUse while another
// node has it.
func (h *Manager) Attach(ctx context.Context, pool, name string) (Device, error) {
	if !volumeid.IsPart(name) { // a path is made of it
		return Device{}, fmt.Errorf("%w: %q cannot be a volume's name", backend.ErrNotFound, name)
	}
	p, err := h.Catalog.Pool(pool)
	if err != nil {
		return Device{}, err
	}
	one, err := h.one(ctx, pool, name)
	if err != nil {
		return Device{}, err
	}
	defer one.mu.Unlock()
	if one.taken != nil && one.lost == nil {
		d, err := one.describe()
		if err == nil {
			return d, nil
		}
		h.markLost(one, err)
	}
	if one.device != nil { // lost
		if err := h.release(ctx, one); err != nil {
			return Device{}, err
		}
	}
	path, err := h.Pools.Root(ctx, p, schema.Block)
	if err != nil {
		return Device{}, err
	}
	root, err := safepath.Open(path)
	if err != nil {
		return Device{}, fmt.Errorf("opening pool %s: %w", p.Pool, err)
	}
	defer root.Close()
	if err := h.begin(p, one); err != nil {
		return Device{}, err
	}
	taken, err := backend.Block{Root: root}.Lock(name)
	if err != nil {
		return Device{}, err
	}
	if err := h.attach(ctx, one, taken); err != nil {
		return Device{}, errors.Join(err, taken.Close())
	}
	return one.describe()
}

// attach makes a device of a volume that was taken.
func (h *Manager) attach(ctx context.Context, one *attachment, taken *backend.LockedVolume) error {
	if before := taken.Before; before.Node != "" {
		h.measures().takeover.WithLabelValues(one.pool).Inc()
		h.Log.Info("taking over a volume that was not given back", "pool", one.pool, "volume", one.name, "node", before.Node, "since", before.Since, "epoch", before.Epoch)
		select {
		case <-ctx.Done():
			return fmt.Errorf("taking over volume %s: %w", one.name, ctx.Err())
		case <-time.After(takeoverGrace):
		}
		if err := ofd.Lock(taken.File); err != nil {
			return fmt.Errorf("%w: taking over volume %s: %w", backend.ErrInUse, one.name, err)
		}
	}
	if err := taken.Attach(h.Node, bootID(), nil); err != nil {
		return err
	}
	device, err := loop.AttachAs(taken.File, one.label, deviceFlags, usable)
	if err != nil {
		return err
	}
	one.taken, one.device, one.lost, one.fenced = taken, device, nil, false
	one.attached.Store(true)
	h.Log.Info("attached a volume", "pool", one.pool, "volume", one.name, "device", device.Name(), "epoch", taken.Attachment().Epoch)
	return nil
}

func (o *attachment) describe() (Device, error) {
	v, a := o.taken.Volume, o.taken.Attachment()
	info, err := o.taken.File.Stat()
	if err != nil {
		return Device{}, fmt.Errorf("asking volume %s for its size: %w", o.name, err)
	}
	return Device{
		Path: o.device.Name(), Label: o.label, Size: info.Size(), Epoch: a.Epoch,
		FileSystem: v.FileSystem, FormatOptions: v.FormatOptions, Formatted: a.Formatted, Shared: v.Shared,
	}, nil
}

// with does something with a volume that this node has.
func (h *Manager) with(ctx context.Context, pool, name string, do func(*attachment) error) (Device, error) {
	one, err := h.one(ctx, pool, name)
	if err != nil {
		return Device{}, err
	}
	defer one.mu.Unlock()
	switch {
	case one.lost != nil:
		return Device{}, one.lost
	case one.taken == nil:
		return Device{}, fmt.Errorf("%w: %s in pool %s", ErrOther, name, pool)
	}
	if err := do(one); err != nil {
		return Device{}, err
	}
	return one.describe()
}

// Formatted notes that a file system was made on a volume, completely.
func (h *Manager) Formatted(ctx context.Context, pool, name, fileSystem string) error {
	_, err := h.with(ctx, pool, name, func(o *attachment) error { return o.taken.Formatted(fileSystem) })
	return err
}

// Grow makes the device as large as the volume is by now.
func (h *Manager) Grow(ctx context.Context, pool, name string) (Device, error) {
	return h.with(ctx, pool, name, func(o *attachment) error {
		if err := o.taken.Extend(); err != nil {
			return err
		}
		return loop.Refresh(o.device)
	})
}

// Detach gives a volume back; one that this node does not have is no error. ErrOpen as long
// as its device is in use.
func (h *Manager) Detach(ctx context.Context, pool, name string) error {
	one, err := h.one(ctx, pool, name)
	if err != nil {
		return err
	}
	defer one.mu.Unlock()
	if one.device == nil {
		return nil
	}
	if one.stopped != nil {
		return fmt.Errorf("%w: a copy of volume %s is being made", ErrBusy, name)
	}
	return h.release(ctx, one)
}

// releaseLimit is how long a device may take to go when it was told to.
const releaseLimit = 5 * time.Second

// release detaches the device, and then the volume. The file's lock goes with the last that
// has it, which is the device.
func (h *Manager) release(ctx context.Context, one *attachment) error {
	path := one.device.Name()
	if at, err := mountedAt(path); err != nil {
		return err
	} else if at != "" {
		return fmt.Errorf("%w: %s of volume %s is mounted at %s", ErrOpen, path, one.name, at)
	}
	if one.lost == nil {
		if err := errors.Join(one.device.Sync(), one.taken.File.Sync()); err != nil {
			h.Log.Info("a volume could not be written out before it was given back", "volume", one.name, "error", err.Error())
		}
	}
	if err := h.clear(ctx, one); err != nil {
		return err
	}
	taken := one.taken
	lost := one.lost
	note := taken.Detach
	if lost != nil {
		note = taken.Leave
	}
	one.device, one.taken, one.lost = nil, nil, nil
	one.attached.Store(false)
	if err := note(); err != nil {
		h.Log.Info("a volume was given back without a note", "volume", one.name, "error", err.Error())
	}
	h.Log.Info("detached a volume", "pool", one.pool, "volume", one.name, "device", path)
	if err := taken.Close(); err != nil && lost == nil {
		return fmt.Errorf("closing volume %s: %w", one.name, err)
	}
	return nil
}

// clear detaches the device and waits until it has no file: kernels do that when the last
// who has it open closes it, which may be somebody who has only looked.
func (h *Manager) clear(ctx context.Context, one *attachment) error {
	path := one.device.Name()
	if err := errors.Join(loop.Detach(one.device), one.device.Close()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, releaseLimit)
	defer cancel()
	for loop.Attached(path, one.label) {
		select {
		case <-ctx.Done():
			device, err := loop.Open(path, one.label)
			if err == nil {
				one.device = device // for the next try
			}
			return fmt.Errorf("%w: %s of volume %s (%w)", ErrOpen, path, one.name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
