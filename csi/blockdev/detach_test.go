package blockdev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/loop"
)

// TestDetachAgain: a device that was closed to detach it, and could not be opened again while the
// pool did not respond, is detached by a later call.
func TestDetachAgain(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("uses loop devices: needs root")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "volume"))
	if err == nil {
		err = file.Truncate(1 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	label := fmt.Sprintf("test-%d", os.Getpid())
	device, err := loop.AttachAs(file, label, loop.AutoClear, func(string) (bool, error) { return true, nil })
	if err != nil {
		t.Skipf("loop devices cannot be used here: %v", err)
	}
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
