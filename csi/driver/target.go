package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
)

// place is a path below the kubelet's root at which a volume is, or will be,
// mounted. Nothing on the way to it is a symbolic link.
type place struct {
	parent *safepath.Dir
	name   string
	path   string // as the request gave it
}

// Close closes the place.
func (p *place) Close() error { return p.parent.Close() }

// target opens a place; with make, its folder is made. Without, the place is nil
// when its folder's parent is not there.
func (n *node) target(path string, make bool) (*place, error) {
	relative, below := strings.CutPrefix(path, strings.TrimRight(n.d.KubeletRoot, "/")+"/")
	if !below || filepath.Clean(path) != path || !filepath.IsLocal(relative) {
		return nil, invalid("the path %q does not lie below the kubelet's root %s", path, n.d.KubeletRoot)
	}
	root, err := safepath.Open(n.d.KubeletRoot)
	if err != nil {
		return nil, fmt.Errorf("opening the kubelet's root: %w", err)
	}
	defer root.Close()
	dir := filepath.Dir(relative)
	if make {
		if err := root.MkdirAll(relative, 0o750); err != nil && !isDead(err) {
			return nil, fmt.Errorf("making %s: %w", path, err)
		}
	}
	parent, err := root.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && !make {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the folder of %s: %w", path, err)
	}
	return &place{parent, filepath.Base(relative), path}, nil
}

// isDead tells the errors of a mount whose client has gone.
func isDead(err error) bool {
	return errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ECONNABORTED) || errors.Is(err, unix.EIO)
}

// name in the file system, through the open parent.
func (p *place) at() string { return p.parent.Path() + "/" + p.name }

// bind mounts a folder here with these flags, if it is not mounted so already. What
// else is mounted here is taken away first, but for a mount whose client has gone:
// who has taken a mount from it sees only what covers it.
func (p *place) bind(folder *safepath.Dir, flags bind.Flags) error {
	mounted, found, err := mountinfo.At(p.path)
	if err != nil {
		return err
	}
	if found {
		has := bind.Of(mounted.Flags)
		asked := has&flags == flags && has&bind.ReadOnly == flags&bind.ReadOnly
		switch same, err := p.shows(folder); {
		case same && asked:
			return nil
		case !isDead(err):
			if err := p.unmountAll(); err != nil {
				return err
			}
		}
	}
	return p.cover(folder, flags)
}

// shows tells whether a folder is what is mounted here, or how that failed.
func (p *place) shows(folder *safepath.Dir) (bool, error) {
	there, err := p.parent.Dir(p.name)
	if err != nil {
		return false, err
	}
	defer there.Close()
	return there.Same(folder)
}

// cover mounts a folder over whatever is at the place now.
func (p *place) cover(folder *safepath.Dir, flags bind.Flags) error {
	at, err := p.parent.Dir(p.name) // without following a link
	if err == nil {
		err = bind.At(folder.File(), at.File(), flags)
		at.Close()
	}
	if err != nil {
		return fmt.Errorf("mounting the volume at %s: %w", p.path, err)
	}
	return nil
}

// unmount takes away all that is mounted here and, if asked, the empty folder.
func (p *place) unmount(remove bool) error {
	if err := p.unmountAll(); err != nil {
		return err
	}
	if !remove {
		return nil
	}
	err := p.parent.Rmdir(p.name)
	if errors.Is(err, unix.ENOTDIR) { // a device was mounted there
		err = p.parent.Unlink(p.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", p.path, err)
	}
	return nil
}

func (p *place) unmountAll() error {
	for {
		_, found, err := mountinfo.At(p.path)
		if err != nil || !found {
			return err
		}
		err = unix.Unmount(p.at(), unix.UMOUNT_NOFOLLOW)
		if isDead(err) || errors.Is(err, unix.EBUSY) {
			// A client that has gone, or a file that a process that is ending
			// still holds: nobody new finds the mount from now on.
			err = unix.Unmount(p.at(), unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil // somebody else was faster
		}
		if err != nil {
			return fmt.Errorf("unmounting %s: %w", p.path, err)
		}
	}
}

// staged opens the mount at a staging path; a path without a mount is an error,
// never a folder that is taken for a volume.
func (n *node) staged(path string) (*safepath.Dir, error) {
	at, err := n.target(path, false)
	if err != nil {
		return nil, err
	}
	if at == nil {
		return nil, fmt.Errorf("%w: nothing is staged at %s", errConflict, path)
	}
	defer at.Close()
	if _, found, err := mountinfo.At(path); err != nil || !found {
		return nil, errors.Join(err, fmt.Errorf("%w: nothing is staged at %s", errConflict, path))
	}
	d, err := at.parent.Dir(at.name)
	if err == nil {
		var root unix.Stat_t // opening by place alone asks nobody
		if err = unix.Fstat(int(d.File().Fd()), &root); err != nil {
			d.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening what is staged at %s: %w", path, err)
	}
	return d, nil
}

// exclusive holds that a volume of mode SINGLE_NODE_SINGLE_WRITER is published at
// one path of the node. The kernel's list of mounts is what counts.
func exclusive(r *csi.NodePublishVolumeRequest, staged *safepath.Dir) error {
	if r.GetVolumeCapability().GetAccessMode().GetMode() != csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		return nil
	}
	all, err := mountinfo.All()
	if err != nil {
		return err
	}
	at, err := os.Readlink(staged.Path())
	if err != nil {
		return fmt.Errorf("asking where volume %s is staged: %w", r.GetVolumeId(), err)
	}
	from, err := mountinfo.Holding(at)
	if err != nil {
		return err
	}
	from.Root = filepath.Join(from.Root, strings.TrimPrefix(at, from.Target))
	client := true // the first mount of a file system is its client's own
	for _, m := range all {
		if m.Device != from.Device {
			continue
		}
		if !client && m.Root == from.Root && m.Target != from.Target && m.Target != r.GetTargetPath() {
			return fmt.Errorf("%w: it is for one pod (ReadWriteOncePod), and is published at %s", errConflict, m.Target)
		}
		client = false
	}
	return nil
}
