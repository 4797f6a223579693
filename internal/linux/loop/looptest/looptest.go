// Package looptest makes loop devices for tests.
package looptest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/atoll-storage/atoll/internal/linux/loop"
)

// Attach attaches a sparse file of this size to a loop device, under a label that only this test
// has. The device ends when it is closed everywhere; the test closes the file and the device. It
// skips the test unless it runs as root, where there are loop devices.
func Attach(t testing.TB, size int64) (file, device *os.File, label string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("uses loop devices: needs root")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "volume"))
	if err == nil {
		err = file.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	label = fmt.Sprintf("test-%d-%s", os.Getpid(), t.Name())
	label = label[:min(len(label), loop.MaxLabel)]
	device, err = loop.AttachAs(file, label, loop.AutoClear, func(string) (bool, error) { return true, nil })
	if err != nil {
		t.Skipf("loop devices cannot be used here: %v", err)
	}
	t.Cleanup(func() {
		_, _ = file.Close(), device.Close() // the test may have closed them
	})
	return file, device, label
}
