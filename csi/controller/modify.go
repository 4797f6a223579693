package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/controller/capacity"
	"github.com/atoll-storage/atoll/csi/controller/params"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
)

// ControllerExpandVolume provisions more space for a volume. Nodes must then grow the device
// of a block volume.
func (s *Server) ControllerExpandVolume(
	ctx context.Context, r *csi.ControllerExpandVolumeRequest,
) (*csi.ControllerExpandVolumeResponse, error) {
	size, _, err := rpc.ReadCapacity(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	if r.GetCapacityRange() == nil {
		return nil, rpc.Invalid("capacity range missing")
	}
	id, h, v, err := s.openVolume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer h.Close()
	l, err := s.ledgers.Of(ctx, h)
	if err != nil {
		return nil, err
	}
	if id.Layout == schema.Block {
		size = roundUp(size)
	}
	undo := func() {}
	if id.Layout != schema.Single && size > v.Size {
		space, err := h.Space()
		if err != nil {
			return nil, err
		}
		if undo, err = l.Reserve(capacity.Key(id.Layout, id.Name), size, space, v.Overcommit); err != nil {
			return nil, err
		}
	}
	if v, err = h.Backend.Expand(ctx, id.Name, size); err != nil {
		undo()
		return nil, err
	}
	if _, err := s.limit(ctx, h, v); err != nil {
		return nil, err
	}
	return &csi.ControllerExpandVolumeResponse{
		CapacityBytes: v.Size, NodeExpansionRequired: id.Layout == schema.Block,
	}, nil
}

// ControllerModifyVolume changes what happens to the data of a deleted volume.
func (s *Server) ControllerModifyVolume(
	ctx context.Context, r *csi.ControllerModifyVolumeRequest,
) (*csi.ControllerModifyVolumeResponse, error) {
	id, h, _, err := s.openVolume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer h.Close()
	reclaim, err := params.ReadMutable(r.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	if reclaim != "" {
		if _, err := h.Backend.SetReclaim(ctx, id.Name, reclaim); err != nil {
			return nil, err
		}
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}
