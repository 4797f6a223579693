package mountpoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/mounted"
)

// ShowsDevice reports whether the file system of a device is mounted at the point. That of
// another device is unmounted: the volume had that device before, and lost it.
func (p *Point) ShowsDevice(device *os.File) (bool, error) {
	m, err := mounted.At(p.Path)
	if err != nil || m == nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(device.Fd()), &st); err != nil {
		return false, fmt.Errorf("stat %s: %w", device.Name(), err)
	}
	if mounted.OnDevice(m, st.Rdev) {
		return true, nil
	}
	return false, p.UnmountDevice()
}

// MountDevice mounts the file system of a device, and grows it to the size of the device.
func (p *Point) MountDevice(d blockdev.Device, options []string) error {
	flags, data, _ := filesystem.Parse(options) // the capability was checked
	at, err := p.Parent.Dir(p.Name)
	if err != nil {
		return fmt.Errorf("open %s: %w", p.Path, err)
	}
	defer at.Close()
	if err := filesystem.Mount(d.Path, d.FileSystem, data, at.File(), flags&^bind.ReadOnly); err != nil {
		return fmt.Errorf("mount the volume at %s: %w", p.Path, err)
	}
	return p.GrowDevice(d)
}

// GrowDevice grows the file system that is mounted at the point to the size of its device.
func (p *Point) GrowDevice(d blockdev.Device) error {
	in, err := p.Parent.OpenDir(p.Name)
	if err != nil {
		return fmt.Errorf("open %s: %w", p.Path, err)
	}
	defer in.Close()
	return filesystem.Grow(in, d.Path, d.FileSystem, d.Size)
}

// UnmountDevice unmounts the file system of a device. It fails if that is in use, and does not
// detach it: a volume in use must not be released to another node.
func (p *Point) UnmountDevice() error {
	for {
		found, err := p.IsMounted()
		if err != nil || !found {
			return err
		}
		if err := unix.Unmount(p.safePath(), unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w: unmount %s: %w", blockdev.ErrOpen, p.Path, err)
		}
	}
}

// CreateFile opens the path of a raw volume below the kubelet's root and creates its parent
// directory.
func CreateFile(kubeletRoot, path string) (*Point, error) {
	above, err := Create(kubeletRoot, filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	parent, err := above.Parent.Dir(above.Name)
	if err != nil {
		return nil, fmt.Errorf("open the parent directory of %s: %w", path, err)
	}
	return &Point{parent, filepath.Base(path), path}, nil
}

// BindDevice mounts a device node on a file at the point, unless it is mounted there.
func (p *Point) BindDevice(d blockdev.Device, device *os.File, flags bind.Flags) error {
	if same, err := p.showsNode(device); err != nil || same {
		return err
	}
	file, err := p.Parent.Create(p.Name, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", p.Path, err)
	}
	defer file.Close()
	node, err := os.OpenFile(d.Path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer node.Close()
	if err := bind.At(node, file, flags); err != nil {
		return fmt.Errorf("mount %s at %s: %w", d.Path, p.Path, err)
	}
	return nil
}

// showsNode reports whether the node of a device is mounted at the point. That of another
// device is unmounted: the volume had that device before, and lost it.
func (p *Point) showsNode(device *os.File) (bool, error) {
	found, err := p.IsMounted()
	if err != nil || !found {
		return false, err
	}
	var is, want unix.Stat_t
	if err := errors.Join(unix.Fstat(int(device.Fd()), &want), unix.Lstat(p.safePath(), &is)); err != nil {
		return false, fmt.Errorf("compare %s with %s: %w", p.Path, device.Name(), err)
	}
	if is.Mode&unix.S_IFMT == unix.S_IFBLK && is.Rdev == want.Rdev {
		return true, nil
	}
	return false, p.Unmount()
}

// DeviceSize returns the size of the device node at a path below the kubelet's root, in bytes;
// ok is false when no device node is there.
func DeviceSize(kubeletRoot, path string) (size int64, ok bool, err error) {
	p, err := Find(kubeletRoot, path)
	if err != nil || p == nil {
		return 0, false, nil //nolint:nilerr // the caller's next check reports it
	}
	defer p.Close()
	mode, err := p.Parent.Mode(p.Name)
	if err != nil || mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, false, nil //nolint:nilerr // the same
	}
	f, err := p.Parent.ReadAny(p.Name)
	if err == nil {
		defer f.Close()
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return 0, true, fmt.Errorf("%w: read the size of the device at %s: %w", rpc.ErrNoAnswer, path, err)
	}
	return size, true, nil
}

// Published is a path below the kubelet's root where a volume's device is: its node, or its file system.
type Published struct {
	Path, Device string
}

// PublishedDevice lists the paths below the kubelet's root that have a device.
func PublishedDevice(kubeletRoot, device string) ([]string, error) {
	all, err := PublishedDevices(kubeletRoot)
	var paths []string
	for _, p := range all {
		if p.Device == device {
			paths = append(paths, p.Path)
		}
	}
	return paths, err
}

// loopPrefix begins the paths of loop devices.
const loopPrefix = "/dev/loop"

// PublishedDevices lists the paths below the kubelet's root that have loop devices.
func PublishedDevices(kubeletRoot string) ([]Published, error) {
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(kubeletRoot))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var found []Published
	for _, m := range all {
		switch {
		case strings.HasPrefix(m.Source, loopPrefix) && (m.FSType == filesystem.XFS || m.FSType == filesystem.Ext4):
			found = append(found, Published{m.Mountpoint, m.Source})
		case strings.HasPrefix("/dev"+m.Root, loopPrefix): // of the file system that is mounted at /dev
			found = append(found, Published{m.Mountpoint, "/dev" + m.Root})
		}
	}
	return found, nil
}
