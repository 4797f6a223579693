package controller

import (
	"context"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// ControllerPublishVolume allows a volume on a node. Volumes of files are allowed on every
// node. A block volume is refused while another node holds its lock, whatever its record says,
// unless it is shared. The node takes the lock when the volume is staged there.
func (s *Server) ControllerPublishVolume(
	ctx context.Context, r *csi.ControllerPublishVolumeRequest,
) (*csi.ControllerPublishVolumeResponse, error) {
	if err := rpc.RequireFields("volume ID", r.GetVolumeId(), "node ID", r.GetNodeId()); err != nil {
		return nil, err
	}
	if err := rpc.CheckWellFormed(r.GetVolumeCapability()); err != nil {
		return nil, err
	}
	id, h, v, err := s.openVolume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if err := rpc.CheckVolume(r.GetVolumeCapability(), id.Layout, v.Shared); err != nil {
		return nil, err
	}
	if err := s.checkNode(ctx, r.GetNodeId()); err != nil {
		return nil, err
	}
	if blocks, ok := h.Backend.(backend.Block); ok {
		if err := blocks.CheckFree(id.Name, r.GetNodeId()); err != nil {
			return nil, err
		}
	}
	return &csi.ControllerPublishVolumeResponse{}, nil
}

// checkNode returns an error if the driver does not run on a node, as far as that is known.
func (s *Server) checkNode(ctx context.Context, node string) error {
	if s.config.HasDriver == nil {
		return nil
	}
	has, err := s.config.HasDriver(ctx, node)
	if err == nil && !has {
		err = fmt.Errorf("%w: %s", rpc.ErrUnknownNode, node)
	}
	return err
}

// ControllerUnpublishVolume needs no work: the node released the volume when it was unstaged
// there. A node that did not, because it is cut off or dead, loses the volume at the bricks,
// whatever the controller answers.
func (s *Server) ControllerUnpublishVolume(
	_ context.Context, r *csi.ControllerUnpublishVolumeRequest,
) (*csi.ControllerUnpublishVolumeResponse, error) {
	if err := rpc.RequireFields("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	if _, err := volumeid.Parse(r.GetVolumeId()); err != nil {
		s.log.Info("no volume of Atoll to unpublish", "id", r.GetVolumeId())
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}
