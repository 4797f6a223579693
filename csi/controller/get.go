package controller

import (
	"context"
	"errors"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/rpc"
)

// ValidateVolumeCapabilities confirms capabilities that a volume supports.
func (s *Server) ValidateVolumeCapabilities(
	ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if len(r.GetVolumeCapabilities()) == 0 {
		return nil, rpc.Invalid("volume capabilities missing")
	}
	id, h, v, err := s.openVolume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer h.Close()
	for _, c := range r.GetVolumeCapabilities() {
		if err := rpc.CheckVolume(c, id.Layout, v.Shared); err != nil {
			return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
		}
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(),
		Parameters: r.GetParameters(),
	}}, nil
}

// ControllerGetVolume reads one volume.
func (s *Server) ControllerGetVolume(
	ctx context.Context, r *csi.ControllerGetVolumeRequest,
) (*csi.ControllerGetVolumeResponse, error) {
	id, h, v, err := s.openVolume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer h.Close()
	return &csi.ControllerGetVolumeResponse{
		Volume: &csi.Volume{VolumeId: id.String(), CapacityBytes: v.Size},
		Status: &csi.ControllerGetVolumeResponse_VolumeStatus{},
	}, nil
}

// ControllerGetVolumeHealth reports whether a volume can be reached from the controller.
func (s *Server) ControllerGetVolumeHealth(
	ctx context.Context, r *csi.ControllerGetVolumeHealthRequest,
) (*csi.ControllerGetVolumeHealthResponse, error) {
	_, h, _, err := s.openVolume(ctx, r.GetVolumeId())
	switch {
	case errors.Is(err, mounts.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: rpc.Inaccessible(r.GetVolumeId(), "PoolUnreachable",
			err.Error())}, nil
	case err != nil:
		return nil, err
	}
	defer h.Close()
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: &csi.VolumeHealth{VolumeId: r.GetVolumeId()}}, nil
}
