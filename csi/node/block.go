package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/csi/node/repair"
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

// detachLimit is how long detaching a volume after a failed request may take.
const detachLimit = 30 * time.Second

// detachUnused detaches a volume after a failed request, unless pods use it. The request's
// deadline does not count.
func (s *Server) detachUnused(ctx context.Context, id volumeid.ID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachLimit)
	defer cancel()
	if err := s.config.Devices.Detach(ctx, id.Pool, id.Name); err != nil && !errors.Is(err, blockdev.ErrOpen) {
		s.log.Info("volume not detached", "volume", id.String(), "error", err.Error())
	}
}

// stageBlock attaches a volume and, unless it is raw, mounts it at its staging path. A new
// volume gets its file system. A volume that cannot be mounted is detached again: the kubelet
// unstages only what it believes to be staged, and the volume would be locked for all others.
func (s *Server) stageBlock(ctx context.Context, id volumeid.ID, path string, c *csi.VolumeCapability) error {
	d, f, err := s.attach(ctx, id, c)
	if err != nil {
		return err
	}
	if c.GetBlock() == nil {
		err = s.mountBlock(ctx, id, path, c, d, f)
	}
	f.Close()
	if err != nil && !errors.Is(err, errFormatting) {
		s.detachUnused(ctx, id)
	}
	return err
}

// mountBlock mounts the file system of an attached volume.
func (s *Server) mountBlock(
	ctx context.Context, id volumeid.ID, path string, c *csi.VolumeCapability, d blockdev.Device, f *os.File,
) error {
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
	if err := s.format(ctx, id, d); err != nil {
		return err
	}
	return at.MountDevice(d, c.GetMount().GetMountFlags())
}

// formatLimit is how long making or checking a file system may take, however many calls wait for
// it: e2fsck(8) of many terabytes takes hours.
const formatLimit = 12 * time.Hour

// errFormatting says that a file system is still being made or checked when a call ends.
var errFormatting = errors.New("its file system is still being made or checked")

// format makes the file system of a volume that has none, or only part of one, and otherwise
// checks it. That goes on when the call ends, and the next one waits for it: a check that was
// killed would begin again each time.
func (s *Server) format(ctx context.Context, id volumeid.ID, d blockdev.Device) error {
	if d.Formatted != "" && d.Formatted != d.FileSystem {
		return fmt.Errorf("%w: volume %s has the file system %s and should have %s", rpc.ErrConflict, id.Name,
			d.Formatted, d.FileSystem)
	}
	ended := s.formatting.DoChan(d.Label, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), formatLimit)
		defer cancel()
		device, err := loop.Open(d.Path, d.Label) // the call's may be closed meanwhile
		if err != nil {
			return nil, err
		}
		defer device.Close()
		return nil, s.formatDevice(ctx, id, d, device)
	})
	select {
	case r := <-ended:
		return r.Err
	case <-ctx.Done():
		return fmt.Errorf("volume %s: %w: %w", id.Name, errFormatting, ctx.Err())
	}
}

// formatDevice is format without the limit of a call.
func (s *Server) formatDevice(ctx context.Context, id volumeid.ID, d blockdev.Device, f *os.File) error {
	if d.Formatted != "" {
		return filesystem.Check(ctx, f, d.FileSystem, d.Size)
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
	mounted, err := isMounted(path)
	if err != nil {
		return err
	}
	if !mounted {
		if staged, err := repair.VolumeAt(s.config.KubeletRoot, path); err != nil || staged != id {
			return nil //nolint:nilerr // it was never staged, which publishing reports
		}
	}
	err = s.stageBlock(ctx, id, path, r.GetVolumeCapability())
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
