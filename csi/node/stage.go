package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// NodeStageVolume mounts a volume at its staging path.
func (s *Server) NodeStageVolume(
	ctx context.Context, r *csi.NodeStageVolumeRequest,
) (*csi.NodeStageVolumeResponse, error) {
	id, err := readRequest(r.GetVolumeId(), r.GetVolumeCapability(), "staging path", r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	if id.Layout == schema.Block {
		return &csi.NodeStageVolumeResponse{}, s.stageBlock(ctx, id, r.GetStagingTargetPath(), r.GetVolumeCapability())
	}
	return &csi.NodeStageVolumeResponse{}, s.stage(ctx, id, r.GetStagingTargetPath())
}

// stage binds an existing volume to its staging path, over a mount whose client has died. A
// whole pool is not mounted there (ADR 0018).
func (s *Server) stage(ctx context.Context, id volumeid.ID, path string) error {
	dir, err := s.openDir(ctx, id)
	if err != nil {
		return err
	}
	defer dir.Close()
	at, err := mountpoint.Create(s.config.KubeletRoot, path)
	if err != nil {
		return err
	}
	defer at.Close()
	if id.Layout == schema.Single {
		return at.Unmount()
	}
	return at.Bind(dir, 0)
}

// openStaged opens the mount at a staging path. A path without a mount is an error, so that
// its directory never passes for a volume.
func (s *Server) openStaged(path string) (*safepath.Dir, error) {
	at, err := mountpoint.Find(s.config.KubeletRoot, path)
	if err != nil {
		return nil, err
	}
	if at == nil {
		return nil, fmt.Errorf("%w: nothing is staged at %s", rpc.ErrConflict, path)
	}
	defer at.Close()
	if found, err := at.IsMounted(); err != nil || !found {
		return nil, errors.Join(err, fmt.Errorf("%w: nothing is staged at %s", rpc.ErrConflict, path))
	}
	return at.Open()
}

// NodeUnstageVolume unmounts a volume from its staging path.
func (s *Server) NodeUnstageVolume(
	ctx context.Context, r *csi.NodeUnstageVolumeRequest,
) (*csi.NodeUnstageVolumeResponse, error) {
	if err := rpc.RequireFields("volume ID", r.GetVolumeId(), "staging path", r.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	if id, err := volumeid.Parse(r.GetVolumeId()); err == nil && id.Layout == schema.Block {
		return &csi.NodeUnstageVolumeResponse{}, s.unstageBlock(ctx, id, r.GetStagingTargetPath())
	}
	at, err := mountpoint.Find(s.config.KubeletRoot, r.GetStagingTargetPath())
	if err != nil || at == nil {
		return &csi.NodeUnstageVolumeResponse{}, err
	}
	defer at.Close()
	return &csi.NodeUnstageVolumeResponse{}, at.Unmount()
}
