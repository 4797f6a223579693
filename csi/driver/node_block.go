package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// device attaches a volume to this node, or finds it attached, and opens its device. As long
// as it is open, it is the volume's. Whether it is shared stands in the volume's record, and
// not in what is asked for.
func (n *node) device(ctx context.Context, id volumeid.ID, c *csi.VolumeCapability) (blockdev.Device, *os.File, error) {
	if n.d.Blocks == nil {
		return blockdev.Device{}, nil, invalid("this node has no block volumes")
	}
	d, err := n.d.Blocks.Attach(ctx, id.Pool, id.Name)
	if err != nil {
		return d, nil, err
	}
	if err := checkShared(c, d.Shared); err != nil {
		return d, nil, n.refuse(ctx, id, err)
	}
	f, err := loop.Open(d.Path, d.Label)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil, fmt.Errorf("%w: %w", blockdev.ErrBusy, err) // it was detached meanwhile
	}
	return d, f, err
}

// refuse gives back a volume that cannot be had as it is asked for. One that is in use, as it
// may be had, stays.
func (n *node) refuse(ctx context.Context, id volumeid.ID, why error) error {
	if err := n.d.Blocks.Detach(ctx, id.Pool, id.Name); err != nil && !errors.Is(err, blockdev.ErrOpen) {
		n.d.Log.Info("a volume was not given back", "volume", id.String(), "error", err.Error())
	}
	return why
}

// stageBlock attaches a volume and, unless it is for raw use, mounts it at its staging path,
// with a file system made on it if it is new.
func (n *node) stageBlock(ctx context.Context, id volumeid.ID, path string, c *csi.VolumeCapability) error {
	d, f, err := n.device(ctx, id, c)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.GetBlock() != nil {
		return nil
	}
	if d.FileSystem == "" {
		return invalid("volume %s was made for raw use (volumeMode Block)", id.Name)
	}
	if asked := c.GetMount().GetFsType(); asked != "" && asked != d.FileSystem {
		return invalid("volume %s was made with %s, not with %s", id.Name, d.FileSystem, asked)
	}
	at, err := n.target(path, true)
	if err != nil {
		return err
	}
	defer at.Close()
	if mounted, err := at.showsDevice(f); err != nil || mounted {
		return err
	}
	if err := n.makeReady(ctx, id, d, f); err != nil {
		return err
	}
	return at.mountDevice(d, c.GetMount().GetMountFlags())
}

// restageBlock holds that a staged volume is still this node's. One that was lost is staged
// anew when no pod uses it any more: the kubelet takes it for staged, and would not ask.
func (n *node) restageBlock(ctx context.Context, id volumeid.ID, r *csi.NodePublishVolumeRequest) error {
	path := r.GetStagingTargetPath()
	if _, found, err := mountinfo.At(path); err != nil || !found {
		return err // publishing says so
	}
	err := n.stageBlock(ctx, id, path, r.GetVolumeCapability())
	if !errors.Is(err, blockdev.ErrOpen) {
		return err
	}
	n.d.Log.Info("staging a volume anew, it was lost", "volume", id.String())
	at, err := n.target(path, false)
	if err != nil || at == nil {
		return err
	}
	defer at.Close()
	if err := at.unmountDevice(); err != nil {
		return err
	}
	return n.stageBlock(ctx, id, path, r.GetVolumeCapability())
}

// makeReady makes a file system where none has been made completely, and checks one that is
// there.
func (n *node) makeReady(ctx context.Context, id volumeid.ID, d blockdev.Device, f *os.File) error {
	switch d.Formatted {
	case d.FileSystem:
		return filesystem.Check(ctx, f, d.FileSystem, d.Size)
	case "":
	default:
		return fmt.Errorf("%w: volume %s has %s on it and is to have %s", errConflict, id.Name, d.Formatted, d.FileSystem)
	}
	n.d.Log.Info("making a file system", "volume", id.String(), "kind", d.FileSystem, "device", d.Path)
	if err := filesystem.Make(ctx, f, d.FileSystem, d.FormatOptions); err != nil {
		return err
	}
	return n.d.Blocks.Formatted(ctx, id.Pool, id.Name, d.FileSystem)
}

// showsDevice tells whether a device is what is mounted here. Another one, of which nothing
// can be there any more, is taken away.
func (p *place) showsDevice(device *os.File) (bool, error) {
	mounted, found, err := mountinfo.At(p.path)
	if err != nil || !found {
		return false, err
	}
	number, err := numberOf(device)
	if err != nil || mounted.Device == number {
		return err == nil, err
	}
	return false, p.unmountDevice()
}

// numberOf is a device as mountinfo writes it.
func numberOf(device *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(device.Fd()), &st); err != nil {
		return "", fmt.Errorf("looking at %s: %w", device.Name(), err)
	}
	return mountinfo.Number(st.Rdev), nil
}

// mountDevice mounts a device here, and makes its file system as large as it is.
func (p *place) mountDevice(d blockdev.Device, options []string) error {
	flags, own, _ := filesystem.Parse(options) // the capability was checked
	at, err := p.parent.Dir(p.name)
	if err != nil {
		return fmt.Errorf("opening %s: %w", p.path, err)
	}
	defer at.Close()
	if err := filesystem.Mount(d.Path, d.FileSystem, own, at.File(), flags&^bind.ReadOnly); err != nil {
		return fmt.Errorf("mounting the volume at %s: %w", p.path, err)
	}
	return p.growDevice(d)
}

// growDevice makes the file system that is mounted here as large as its device.
func (p *place) growDevice(d blockdev.Device) error {
	in, err := p.parent.OpenDir(p.name)
	if err != nil {
		return fmt.Errorf("opening %s: %w", p.path, err)
	}
	defer in.Close()
	return filesystem.Grow(in, d.Path, d.FileSystem, d.Size)
}

// unmountDevice takes away what is mounted here. It waits for nobody: what is still used
// must not be given to another node.
func (p *place) unmountDevice() error {
	for {
		_, found, err := mountinfo.At(p.path)
		if err != nil || !found {
			return err
		}
		if err := unix.Unmount(p.at(), unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("%w: unmounting %s: %w", blockdev.ErrOpen, p.path, err)
		}
	}
}

// unstageBlock unmounts a volume and gives it back.
func (n *node) unstageBlock(ctx context.Context, id volumeid.ID, path string) error {
	if err := given("staging path", path); err != nil {
		return err
	}
	if n.d.Blocks == nil {
		return invalid("this node has no block volumes")
	}
	release, err := n.locks.take(id.String())
	if err != nil {
		return err
	}
	defer release()
	at, err := n.target(path, false)
	if err != nil {
		return err
	}
	if at != nil {
		defer at.Close()
		if err := at.unmountDevice(); err != nil {
			return err
		}
	}
	return n.d.Blocks.Detach(ctx, id.Pool, id.Name)
}

// publishDevice puts the node of a volume's device at a pod's path.
func (n *node) publishDevice(ctx context.Context, id volumeid.ID, r *csi.NodePublishVolumeRequest) error {
	d, f, err := n.device(ctx, id, r.GetVolumeCapability())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := n.onlyHere(r, d); err != nil {
		return err
	}
	above, err := n.target(filepath.Dir(r.GetTargetPath()), true)
	if err != nil {
		return err
	}
	defer above.Close()
	folder, err := above.parent.Dir(above.name)
	if err != nil {
		return fmt.Errorf("opening the folder of %s: %w", r.GetTargetPath(), err)
	}
	at := &place{folder, filepath.Base(r.GetTargetPath()), r.GetTargetPath()}
	defer at.Close()
	if shown, err := at.showsNode(f); err != nil || shown {
		return err
	}
	place, err := at.parent.Create(at.name, 0o600)
	if err != nil {
		return fmt.Errorf("making %s: %w", r.GetTargetPath(), err)
	}
	defer place.Close()
	node, err := os.OpenFile(d.Path, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer node.Close()
	var flags bind.Flags
	if r.GetReadonly() || readsOnly(r.GetVolumeCapability()) {
		flags = bind.ReadOnly
	}
	if err := bind.At(node, place, flags); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", d.Path, r.GetTargetPath(), err)
	}
	return nil
}

// showsNode tells whether the node of a device is what is mounted here. That of another one, which
// the volume had before it was lost, is taken away.
func (p *place) showsNode(device *os.File) (bool, error) {
	_, found, err := mountinfo.At(p.path)
	if err != nil || !found {
		return false, err
	}
	var is, want unix.Stat_t
	if err := errors.Join(unix.Fstat(int(device.Fd()), &want), unix.Lstat(p.at(), &is)); err != nil {
		return false, fmt.Errorf("comparing what is at %s with %s: %w", p.path, device.Name(), err)
	}
	if is.Mode&unix.S_IFMT == unix.S_IFBLK && is.Rdev == want.Rdev {
		return true, nil
	}
	return false, p.unmountAll()
}

// onlyHere holds that a raw volume for one pod is at one path of the node.
func (n *node) onlyHere(r *csi.NodePublishVolumeRequest, d blockdev.Device) error {
	if r.GetVolumeCapability().GetAccessMode().GetMode() != csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER {
		return nil
	}
	at, err := published(n.d.KubeletRoot, d.Path)
	if err != nil {
		return err
	}
	for _, path := range at {
		if path != r.GetTargetPath() {
			return fmt.Errorf("%w: it is for one pod (ReadWriteOncePod), and is published at %s", errConflict, path)
		}
	}
	return nil
}

// published lists where a device is for pods: its node, or what is mounted from it.
func published(kubelet, device string) ([]string, error) {
	all, err := mountinfo.All()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, m := range all {
		of := m.Source == device && (m.Type == filesystem.XFS || m.Type == filesystem.Ext4) || m.Root == "/"+filepath.Base(device)
		if of && strings.HasPrefix(m.Target, kubelet+"/") {
			paths = append(paths, m.Target)
		}
	}
	return paths, nil
}

// NodeExpandVolume makes the device of a block volume, and the file system on it, as large
// as the volume is by now. Volumes of files need nothing.
func (n *node) NodeExpandVolume(ctx context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	if err := given("volume ID", r.GetVolumeId(), "volume path", r.GetVolumePath()); err != nil {
		return nil, err
	}
	id, err := volumeid.Parse(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if _, found, err := mountinfo.At(r.GetVolumePath()); err != nil || !found {
		return nil, errors.Join(err, fmt.Errorf("%w: nothing is mounted at %s", backend.ErrNotFound, r.GetVolumePath()))
	}
	if n.d.Blocks == nil || id.Layout != schema.Block {
		return &csi.NodeExpandVolumeResponse{CapacityBytes: r.GetCapacityRange().GetRequiredBytes()}, nil
	}
	release, err := n.locks.take(id.String())
	if err != nil {
		return nil, err
	}
	defer release()
	d, err := n.d.Blocks.Grow(ctx, id.Pool, id.Name)
	if err != nil {
		return nil, err
	}
	if d.FileSystem != "" {
		at, err := n.target(r.GetVolumePath(), false)
		if err != nil || at == nil {
			return nil, errors.Join(err, fmt.Errorf("%w: there is no %s", backend.ErrNotFound, r.GetVolumePath()))
		}
		defer at.Close()
		if err := at.growDevice(d); err != nil {
			return nil, err
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: d.Size}, nil
}
