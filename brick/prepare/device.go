package prepare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/mounted"
)

// device is a brick's disk while it is prepared.
type device struct {
	path  string // of the block device
	image bool   // it is the loop device of a file
	// loop keeps a loop device attached until it is mounted.
	loop *os.File
}

func (d *device) close() {
	if d.loop != nil {
		d.loop.Close()
	}
}

// open finds the brick's block device: the device itself, or the loop device of a file.
func open(path string) (*device, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the brick's device: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("stat the brick's device %s: %w", path, err)
	case info.Mode().IsRegular():
		return loopDeviceOf(f)
	case info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0:
		return &device{path: path}, nil
	}
	return nil, fmt.Errorf("%w: %s is neither a block device nor a file", ErrForeign, path)
}

func loopDeviceOf(f *os.File) (*device, error) {
	attached, err := loop.Find(f)
	if err != nil || attached != "" {
		return &device{path: attached, image: true}, err
	}
	d, err := loop.Attach(f, loop.AutoClear|loop.DirectIO)
	if err != nil {
		return nil, err
	}
	return &device{d.Name(), true, d}, nil
}

// mount mounts the brick's device at target, unless it is mounted there already. A
// blank device gets a file system first. The content of any other is never overwritten.
func (b Brick) mount(ctx context.Context, target string, log logr.Logger) error {
	d, err := open(b.Device)
	if err != nil {
		return err
	}
	defer d.close()
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("create the mount point: %w", err)
	}
	already, err := isMountedAt(d.path, target)
	if err != nil {
		return err
	}
	if already {
		log.Info("the device is already mounted", "device", b.Device, "target", target)
		return d.grow(target, log)
	}
	kind, err := b.fileSystem(ctx, d.path, log)
	if err != nil {
		return err
	}
	if err := unmountFormer(target, log); err != nil {
		return err
	}
	quota, err := mountQuota(d.path, target, kind)
	if err != nil {
		return fmt.Errorf("mount %s (%s) at %s: %w", b.Device, kind, target, err)
	}
	log.Info("mounted the device", "device", b.Device, "target", target, "fileSystem", kind, "quota", quota)
	if err := b.checkContents(target); err != nil {
		return errors.Join(err, unix.Unmount(target, 0))
	}
	return d.grow(target, log)
}

// grow grows the mounted file system to its device, which has grown since it was formatted. While
// the brick serves, its agent does that for XFS.
func (d *device) grow(target string, log logr.Logger) error {
	f, err := os.Open(d.path)
	if err != nil {
		return fmt.Errorf("open the brick's device: %w", err)
	}
	defer f.Close()
	if d.image {
		if err := loop.Refresh(f); err != nil {
			return err
		}
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read the size of %s: %w", d.path, err)
	}
	root, err := os.Open(target)
	if err != nil {
		return fmt.Errorf("open the brick's file system: %w", err)
	}
	defer root.Close()
	m, err := mounted.At(target)
	if err != nil || m == nil {
		return err
	}
	err = filesystem.Grow(root, d.path, m.FSType, size)
	if errors.Is(err, unix.EPERM) { // ext4, where the container has no SYS_RESOURCE: it works as it is
		log.Info("the file system cannot grow", "device", d.path, "reason", err.Error())
		return nil
	}
	return err
}

// unmountFormer unmounts the disk that the brick had before, or a disk that has come back under another
// name, from the brick's mount point. It never does that while something uses the disk.
func unmountFormer(target string, log logr.Logger) error {
	for {
		former, err := mounted.At(target)
		if err != nil || former == nil {
			return err
		}
		err = unix.Unmount(target, 0)
		if errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("%w: %s is still mounted at %s and in use; "+
				"end what uses it ('fuser -vm %s' on the node), the brick then starts by itself", ErrInUse,
				former.Source, target, target)
		}
		if err != nil {
			return fmt.Errorf("unmount the former disk %s at %s: %w", former.Source, target, err)
		}
		log.Info("unmounted the former disk", "device", former.Source, "target", target)
	}
}

// Log values: whether a brick's file system can enforce the sizes of volumes.
const (
	quotaEnforced = "enforced"
	quotaAdvisory = "advisory"
)

// mountQuota mounts with project quotas where the kernel and the file system support them.
func mountQuota(device, target, kind string) (quota string, err error) {
	const flags = unix.MS_NOATIME | unix.MS_NODEV | unix.MS_NOSUID
	if unix.Mount(device, target, kind, flags, "prjquota") == nil {
		return quotaEnforced, nil
	}
	// The reason does not matter: a real problem shows in the second mount too.
	return quotaAdvisory, unix.Mount(device, target, kind, flags, "")
}

// checkContents verifies that the file system on a brick's device holds a brick or
// nothing: a disk with other files is the wrong disk.
func (b Brick) checkContents(target string) error {
	names, err := os.ReadDir(target)
	if err != nil {
		return fmt.Errorf("list the brick's device: %w", err)
	}
	var others []string
	for _, e := range names {
		if !slices.Contains([]string{filepath.Base(b.Directory), staging, "lost+found"}, e.Name()) {
			others = append(others, e.Name())
		}
	}
	_, err = os.Lstat(b.Directory)
	if errors.Is(err, fs.ErrNotExist) && len(others) > 0 {
		return fmt.Errorf("%w: the file system on %s has %s and no brick; check that it is the right disk", ErrForeign,
			b.Device, strings.Join(others[:min(3, len(others))], ", "))
	}
	return nil
}

// isMountedAt reports whether the file system at target is the one on the device.
func isMountedAt(device, target string) (bool, error) {
	var d, t unix.Stat_t
	if err := unix.Stat(device, &d); err != nil {
		return false, fmt.Errorf("stat device %s: %w", device, err)
	}
	if err := unix.Stat(target, &t); err != nil {
		return false, fmt.Errorf("stat mount point %s: %w", target, err)
	}
	return d.Rdev == t.Dev, nil
}
