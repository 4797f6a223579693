package blockdev

import (
	"context"
	"errors"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/loop/looptest"
)

// TestDetachAgain: a device that was closed to detach it, and could not be opened again while the
// pool did not respond, is detached by a later call. Then nothing is left of the volume.
func TestDetachAgain(t *testing.T) {
	file, device, label := looptest.Attach(t, 1<<20)
	user, err := loop.Open(device.Name(), label) // such as a program that inspects devices
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(loop.Detach(device), device.Close()); err != nil {
		t.Fatal(err)
	}
	m := &Manager{Log: logr.Discard(), attachments: map[string]*attachment{}}
	a := &attachment{
		pool: "p", name: "v", label: label, device: device, closed: true, lost: ErrLost,
		locked: &backend.LockedVolume{File: file},
	}
	m.attachments["p/v"], m.attachments["p/busy"] = a, &attachment{pool: "p", name: "busy"}
	user.Close()
	if err := m.Detach(t.Context(), "p", "v"); err != nil || a.device != nil || a.closed {
		t.Errorf("detach: %v; device %v", err, a.device)
	}
	if loop.Attached(device.Name(), label) {
		t.Error("the device has its file still")
	}
	m.attachments["p/busy"].mu.Lock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Detach(ctx, "p", "busy"); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	m.attachments["p/busy"].mu.Unlock()
	for _, never := range []string{"busy", "w"} {
		if err := m.Detach(t.Context(), "p", never); err != nil {
			t.Error(err)
		}
	}
	if len(m.attachments) != 0 {
		t.Errorf("volumes that are not attached are kept: %v", m.attachments)
	}
}
