package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// attach attaches a volume to this node, unless it is attached, and opens its device. While it
// is open, the device is that of the volume. Whether the volume is shared, its record decides,
// and not the request.
func (s *Server) attach(
	ctx context.Context, id volumeid.ID, c *csi.VolumeCapability,
) (blockdev.Device, *os.File, error) {
	if s.config.Devices == nil {
		return blockdev.Device{}, nil, rpc.Invalid("this node does not serve block volumes")
	}
	d, err := s.config.Devices.Attach(ctx, id.Pool, id.Name)
	if err != nil {
		return d, nil, err
	}
	if err := rpc.CheckShared(c, d.Shared); err != nil {
		s.detachUnused(ctx, id)
		return d, nil, err
	}
	f, err := loop.Open(d.Path, d.Label)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil, fmt.Errorf("%w: %w", blockdev.ErrBusy, err) // another call has detached it
	}
	return d, f, err
}

// detachUnused detaches a volume after a refused request, unless pods use it.
func (s *Server) detachUnused(ctx context.Context, id volumeid.ID) {
	if err := s.config.Devices.Detach(ctx, id.Pool, id.Name); err != nil && !errors.Is(err, blockdev.ErrOpen) {
		s.log.Info("volume not detached", "volume", id.String(), "error", err.Error())
	}
}

// stageBlock attaches a volume and, unless it is raw, mounts it at its staging path. A new
// volume gets its file system.
func (s *Server) stageBlock(ctx context.Context, id volumeid.ID, path string, c *csi.VolumeCapability) error {
	d, f, err := s.attach(ctx, id, c)
	if err != nil {
		return err
	}
	defer f.Close()
	if c.GetBlock() != nil {
		return nil
	}
	if d.FileSystem == "" {
		return rpc.Invalid("volume %s was created raw; use volumeMode Block", id.Name)
	}
	if asked := c.GetMount().GetFsType(); asked != "" && asked != d.FileSystem {
		return rpc.Invalid("volume %s was created with %s, not with %s", id.Name, d.FileSystem, asked)
	}
	at, err := mountpoint.Create(s.config.KubeletRoot, path)
	if err != nil {
		return err
	}
	defer at.Close()
	if mounted, err := at.ShowsDevice(f); err != nil || mounted {
		return err
	}
	if err := s.format(ctx, id, d, f); err != nil {
		return err
	}
	return at.MountDevice(d, c.GetMount().GetMountFlags())
}

// format makes the file system of a volume that has none, or only part of one, and otherwise
// checks it.
func (s *Server) format(ctx context.Context, id volumeid.ID, d blockdev.Device, f *os.File) error {
	switch d.Formatted {
	case d.FileSystem:
		return filesystem.Check(ctx, f, d.FileSystem, d.Size)
	case "":
	default:
		return fmt.Errorf("%w: volume %s has the file system %s and should have %s", rpc.ErrConflict, id.Name,
			d.Formatted, d.FileSystem)
	}
	s.log.Info("formatting", "volume", id.String(), "fileSystem", d.FileSystem, "device", d.Path)
	if err := filesystem.Make(ctx, f, d.FileSystem, d.FormatOptions); err != nil {
		return err
	}
	return s.config.Devices.MarkFormatted(ctx, id.Pool, id.Name, d.FileSystem)
}

// restageBlock checks that a staged volume is still attached to this node. A lost volume is
// staged again when no pod uses it any more: the kubelet believes that it is staged, and would
// not ask.
func (s *Server) restageBlock(ctx context.Context, id volumeid.ID, r *csi.NodePublishVolumeRequest) error {
	path := r.GetStagingTargetPath()
	if mounted, err := isMounted(path); err != nil || !mounted {
		return err // publishing reports it
	}
	err := s.stageBlock(ctx, id, path, r.GetVolumeCapability())
	if !errors.Is(err, blockdev.ErrOpen) {
		return err
	}
	s.log.Info("volume was lost; staging it again", "volume", id.String())
	at, err := mountpoint.Find(s.config.KubeletRoot, path)
	if err != nil || at == nil {
		return err
	}
	defer at.Close()
	if err := at.UnmountDevice(); err != nil {
		return err
	}
	return s.stageBlock(ctx, id, path, r.GetVolumeCapability())
}

// unstageBlock unmounts and detaches a volume.
func (s *Server) unstageBlock(ctx context.Context, id volumeid.ID, path string) error {
	if s.config.Devices == nil {
		return rpc.Invalid("this node does not serve block volumes")
	}
	at, err := mountpoint.Find(s.config.KubeletRoot, path)
	if err != nil {
		return err
	}
	if at != nil {
		defer at.Close()
		if err := at.UnmountDevice(); err != nil {
			return err
		}
	}
	return s.config.Devices.Detach(ctx, id.Pool, id.Name)
}
