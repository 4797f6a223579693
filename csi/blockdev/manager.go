// Package blockdev attaches block volumes to a node as loop devices. It locks a volume's file,
// and the device uses the very file description that has the lock: when the bricks drop the
// lock, nothing is written through the device any more.
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
	"github.com/atoll-storage/atoll/schema"
)

// Pools are the mounts of a node.
type Pools interface {
	Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error)
	Running(p catalog.Pool, layout schema.Layout) (string, error)
	Connections(p catalog.Pool, layout schema.Layout) (graph string, all []gluster.Connection, err error)
	ReloadGraph(ctx context.Context, p catalog.Pool, layout schema.Layout) error
}

// Device is the device of an attached volume.
type Device struct {
	Path  string `json:"path"`  // such as /dev/loop7
	Label string `json:"label"` // see loop.Open
	Size  int64  `json:"size"`  // bytes
	Epoch int64  `json:"epoch"` // how often the volume was attached
	// FileSystem is the file system that it is to have, "" for raw use; Formatted is the one
	// that was created on it.
	FileSystem    string `json:"fileSystem,omitempty"`
	FormatOptions string `json:"formatOptions,omitempty"`
	Formatted     string `json:"formatted,omitempty"`
	// Shared allows other nodes to attach the volume too, as its record says.
	Shared bool `json:"shared,omitempty"`
}

// Errors.
var (
	ErrBusy        = errors.New("another call for this volume is in progress")
	ErrOpen        = errors.New("the volume's device is still open")
	ErrLost        = errors.New("the volume was lost: the bricks dropped its lock, and another node may have attached it")
	ErrNotAttached = errors.New("the volume is not attached to this node")
)

// takeoverGrace is how long a volume stays locked before it is used, if a node attached it and
// did not detach it. A node that was cut off and has just returned has that long to notice.
const takeoverGrace = 3 * time.Second

// Manager manages the attached volumes of a node. Attachments end with this process because
// its GlusterFS clients do.
type Manager struct {
	Pools   Pools
	Catalog catalog.Folder
	Node    string
	// Dir is the directory of the node's mounts. Dir and Node together identify the devices of
	// this node.
	Dir string
	Log logr.Logger

	metrics metrics

	mu          sync.Mutex
	attachments map[string]*attachment
	locks       map[string]poolLocks // by pool
	requests    sync.Map             // freeze requests that are being served, by requestKey
}

// attachment is one volume. Calls that change it lock it.
type attachment struct {
	mu     sync.Mutex
	pool   string
	name   string
	label  string
	of     catalog.Pool          // as it was when the volume was attached
	locked *backend.LockedVolume // nil: not attached
	device *os.File
	closed bool  // device was closed to detach it, and could not be opened again
	lost   error // why the volume was lost, nil if it was not
	fenced bool  // the device of a lost volume passes nothing to its file
	// paused is not nil while writes are paused for a copy.
	paused *pause

	calls    int                    // that have it or wait for it; guarded by the Manager's lock
	attached atomic.Bool            // readable without the lock
	path     atomic.Pointer[string] // of the device, as long as it may be in use; readable without the lock
}

// deviceFlags are the flags of all devices: they are detached when they are no longer open,
// and do not cache a second copy of what is written.
const deviceFlags = loop.AutoClear | loop.DirectIO

// busyLimit is how long a call waits for another call, or for KeepLocks, which locks a volume
// briefly when a brick has returned.
const busyLimit = 5 * time.Second

// acquire returns the attachment of a volume, locked until finish is called; ErrBusy.
func (m *Manager) acquire(ctx context.Context, pool, name string) (*attachment, error) {
	m.mu.Lock()
	if m.attachments == nil {
		m.attachments = map[string]*attachment{}
	}
	key := pool + "/" + name
	if m.attachments[key] == nil {
		m.attachments[key] = &attachment{pool: pool, name: name, label: m.label(key)}
	}
	a := m.attachments[key]
	a.calls++
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, busyLimit)
	defer cancel()
	for !a.mu.TryLock() {
		select {
		case <-ctx.Done():
			m.mu.Lock()
			a.calls--
			m.mu.Unlock()
			return nil, ErrBusy
		case <-time.After(10 * time.Millisecond):
		}
	}
	return a, nil
}

// finish unlocks an attachment that acquire returned. One that is not attached is forgotten with the last
// call that has it.
func (m *Manager) finish(a *attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.calls--
	if a.calls == 0 && a.device == nil && a.locked == nil {
		delete(m.attachments, a.pool+"/"+a.name)
	}
	a.mu.Unlock()
}

// label returns the label of a volume's device on this node. Several nodes may share a kernel.
func (m *Manager) label(key string) string {
	sum := sha256.Sum256([]byte(key))
	return m.prefix() + hex.EncodeToString(sum[:12])
}

// prefix begins all labels of this node.
func (m *Manager) prefix() string {
	sum := sha256.Sum256([]byte(m.Node + " " + m.Dir))
	return "atoll-" + hex.EncodeToString(sum[:6]) + "-"
}

// Start detaches the devices of an earlier process: its clients ended with it, so those
// devices have no file behind them. A device that is mounted is detached when it is unmounted.
func (m *Manager) Start() error {
	if err := m.thawLeftover(); err != nil {
		return err
	}
	left, err := loop.Labelled(func(label string) bool { return strings.HasPrefix(label, m.prefix()) })
	if err != nil {
		return fmt.Errorf("list the devices of an earlier process: %w", err)
	}
	for _, device := range left {
		d, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		m.Log.Info("detaching a device of an earlier process", "device", device)
		err = errors.Join(err, loop.Detach(d), d.Close())
		if err != nil {
			return err
		}
	}
	return nil
}
