package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/beneath"
	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
)

// place is a path below the kubelet's root at which a volume is, or will be,
// mounted. Nothing on the way to it is a symbolic link.
type place struct {
	parent *beneath.Dir
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
	root, err := beneath.Open(n.d.KubeletRoot)
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

// bind mounts a folder here with these flags. If it is mounted here already, only
// the flags are set; what else is mounted here is taken away first.
func (p *place) bind(folder *beneath.Dir, flags uintptr) error {
	mounted, found, err := mountinfo.At(p.path)
	if err != nil {
		return err
	}
	if found {
		there, err := p.parent.Dir(p.name)
		if err == nil {
			isIt := there.Same(folder) // false when either does not answer
			there.Close()
			if isIt && readOnly(mounted) == (flags&msReadOnly != 0) {
				return nil
			}
		}
		if err := p.unmountAll(); err != nil {
			return err
		}
	}
	if err := p.mount(folder.Path(), unix.MS_BIND); err != nil {
		return fmt.Errorf("mounting the volume at %s: %w", p.path, err)
	}
	if flags == 0 {
		return nil
	}
	if err := p.mount("", unix.MS_REMOUNT|unix.MS_BIND|flags); err != nil {
		return errors.Join(fmt.Errorf("setting the mount flags of %s: %w", p.path, err), p.unmountAll())
	}
	return nil
}

// mount calls mount(2) on what is at the place now, opened without following a
// link: the system call itself would follow one.
func (p *place) mount(source string, flags uintptr) error {
	at, err := p.parent.Dir(p.name)
	if err != nil {
		return err
	}
	defer at.Close()
	return unix.Mount(source, at.Path(), "", flags, "")
}

func readOnly(m mountinfo.Mount) bool {
	for flag := range strings.SplitSeq(m.Flags, ",") {
		if flag == "ro" {
			return true
		}
	}
	return false
}

// unmount takes away all that is mounted here and, if asked, the empty folder.
func (p *place) unmount(remove bool) error {
	if err := p.unmountAll(); err != nil {
		return err
	}
	if !remove {
		return nil
	}
	if err := p.parent.Rmdir(p.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
func (n *node) staged(path string) (*beneath.Dir, error) {
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
func exclusive(r *csi.NodePublishVolumeRequest, staged *beneath.Dir) error {
	if r.GetVolumeCapability().GetAccessMode().GetMode() != csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		return nil
	}
	all, err := mountinfo.All()
	if err != nil {
		return err
	}
	var from mountinfo.Mount
	for _, m := range all {
		if m.Target == r.GetStagingTargetPath() {
			from = m
		}
	}
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
