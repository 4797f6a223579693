package blockdev

import (
	"errors"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/loop/looptest"
)

// TestDetachAgain: a device that was closed to detach it, and could not be opened again while the
// pool did not respond, is detached by a later call.
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
	m.attachments["p/v"] = a
	user.Close()
	if err := m.Detach(t.Context(), "p", "v"); err != nil || a.device != nil || a.closed {
		t.Errorf("detach: %v; device %v", err, a.device)
	}
	if loop.Attached(device.Name(), label) {
		t.Error("the device has its file still")
	}
}
