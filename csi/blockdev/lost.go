package blockdev

import (
	"context"
	"fmt"

	"github.com/atoll-storage/atoll/internal/linux/loop"
)

// markLost gives up a volume. Its device is fenced, whatever happens to the file: those who
// have it mounted see I/O errors.
func (m *Manager) markLost(a *attachment, reason error) {
	a.lost = fmt.Errorf("%w: %s in pool %s: %w", ErrLost, a.name, a.pool, reason)
	m.collectors().lost.WithLabelValues(a.pool).Inc()
	m.Log.Info("a volume is lost", "pool", a.pool, "volume", a.name, "device", a.device.Name(), "reason",
		reason.Error())
	m.fence(a)
	if a.paused != nil {
		a.paused.end() // its paused writers get an error
	}
}

// fence cuts the device of a lost volume off its file.
func (m *Manager) fence(a *attachment) {
	a.reopen()
	err := loop.Fence(a.device, a.label, deviceFlags)
	if a.fenced = err == nil; !a.fenced {
		m.Log.Error(err, "could not fence the device of a lost volume", "volume", a.name, "device", a.device.Name())
	}
}

// Lost is a volume that this node has lost and that is still in use here.
type Lost struct {
	Pool   string `json:"pool"`
	Name   string `json:"name"`
	Device string `json:"device"`
	Label  string `json:"label,omitempty"` // of the device: see loop.Open
	Why    string `json:"why"`
}

// Losses are the volumes that this node has lost.
type Losses struct {
	Lost []Lost `json:"lost,omitempty"`
	// Attached are the volumes that are attached here, lost ones too. Any other device that is in
	// use is of an earlier process, whose clients have ended: its volume is lost. Nil if that is
	// unknown.
	Attached []Attached `json:"attached"`
}

// Attached is a volume that is attached to this node.
type Attached struct {
	Pool   string `json:"pool"`
	Name   string `json:"name"`
	Device string `json:"device"`
}

// Lost lists the lost volumes.
func (m *Manager) Lost(context.Context) (Losses, error) {
	all := Losses{Attached: []Attached{}}
	for _, volumes := range m.byPool() {
		for _, a := range volumes {
			if path := a.path.Load(); path != nil {
				all.Attached = append(all.Attached, Attached{a.pool, a.name, *path})
			}
			if !a.mu.TryLock() {
				continue
			}
			if a.lost != nil {
				all.Lost = append(all.Lost, Lost{a.pool, a.name, a.device.Name(), a.label, a.lost.Error()})
			}
			a.mu.Unlock()
		}
	}
	return all, nil
}

// Holds reports whether volumes of a pool are attached to this node, or may be.
func (m *Manager) Holds(pool string) bool {
	for _, a := range m.byPool()[pool] {
		if !a.mu.TryLock() {
			return true // a call is working on it
		}
		holds := a.device != nil || a.locked != nil
		a.mu.Unlock()
		if holds {
			return true
		}
	}
	return false
}
