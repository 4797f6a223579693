package prepare

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
)

// signatures are the file systems that a brick can use, and where their magic
// numbers stand (xfs_fs.h and ext4.h of Linux).
var signatures = []struct {
	name   string
	offset int64
	magic  []byte
}{
	{"xfs", 0, []byte("XFSB")},
	{"ext4", 1024 + 0x38, []byte{0x53, 0xef}},
}

// mount mounts the device at target, unless it is mounted there already.
func mount(device, target string, log logr.Logger) error {
	kind, err := fileSystem(device)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("making the mount point: %w", err)
	}
	mounted, err := isMountedAt(device, target)
	if err != nil {
		return err
	}
	if mounted {
		log.Info("the device is mounted", "device", device, "target", target)
		return nil
	}
	if err := unix.Mount(device, target, kind, unix.MS_NOATIME|unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		return fmt.Errorf("mounting %s (%s) at %s: %w", device, kind, target, err)
	}
	log.Info("mounted the device", "device", device, "target", target, "fileSystem", kind)
	return nil
}

// fileSystem reads which file system a device has.
func fileSystem(device string) (string, error) {
	f, err := os.Open(device)
	if err != nil {
		return "", fmt.Errorf("opening the brick's device: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeDevice == 0 || info.Mode()&os.ModeCharDevice != 0 {
		return "", errors.Join(err, fmt.Errorf("%s is not a block device", device))
	}
	for _, s := range signatures {
		found := make([]byte, len(s.magic))
		if _, err := f.ReadAt(found, s.offset); err != nil {
			return "", fmt.Errorf("reading %s: %w", device, err)
		}
		if bytes.Equal(found, s.magic) {
			return s.name, nil
		}
	}
	return "", fmt.Errorf("%w: %s; nothing is formatted by itself: run mkfs.xfs if nobody misses what is on it", ErrNoFileSystem, device)
}

// isMountedAt compares the device of the target's file system with the device.
func isMountedAt(device, target string) (bool, error) {
	var d, t unix.Stat_t
	if err := unix.Stat(device, &d); err != nil {
		return false, fmt.Errorf("looking at %s: %w", device, err)
	}
	if err := unix.Stat(target, &t); err != nil {
		return false, fmt.Errorf("looking at %s: %w", target, err)
	}
	return d.Rdev == t.Dev, nil
}
