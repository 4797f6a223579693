package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// NodeExpandVolume grows the device of a block volume, and its file system, to the size of the
// volume. Volumes of files need nothing.
func (s *Server) NodeExpandVolume(
	ctx context.Context, r *csi.NodeExpandVolumeRequest,
) (*csi.NodeExpandVolumeResponse, error) {
	if err := rpc.RequireFields("volume ID", r.GetVolumeId(), "volume path", r.GetVolumePath()); err != nil {
		return nil, err
	}
	id, err := volumeid.Parse(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if mounted, err := isMounted(r.GetVolumePath()); err != nil || !mounted {
		return nil, errors.Join(err, fmt.Errorf("%w: nothing is mounted at %s", backend.ErrNotFound, r.GetVolumePath()))
	}
	if s.config.Devices == nil || id.Layout != schema.Block {
		return &csi.NodeExpandVolumeResponse{CapacityBytes: r.GetCapacityRange().GetRequiredBytes()}, nil
	}
	d, err := s.config.Devices.Grow(ctx, id.Pool, id.Name)
	if err != nil {
		return nil, err
	}
	if d.FileSystem != "" {
		at, err := mountpoint.Find(s.config.KubeletRoot, r.GetVolumePath())
		if err != nil || at == nil {
			return nil, errors.Join(err, fmt.Errorf("%w: %s does not exist", backend.ErrNotFound, r.GetVolumePath()))
		}
		defer at.Close()
		if err := at.GrowDevice(d); err != nil {
			return nil, err
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: d.Size}, nil
}
