package node

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// NodePublishVolume mounts a staged volume at a pod's path.
func (s *Server) NodePublishVolume(
	ctx context.Context, r *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	id, err := readRequest(r.GetVolumeId(), r.GetVolumeCapability(), "target path", r.GetTargetPath(), "staging path",
		r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	if r.GetVolumeCapability().GetBlock() != nil {
		return &csi.NodePublishVolumeResponse{}, s.publishDevice(ctx, id, r)
	}
	if id.Layout == schema.Block {
		if err := s.restageBlock(ctx, id, r); err != nil {
			return nil, err
		}
	}
	dir, err := s.openPublished(ctx, id, r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	if err := checkOnePod(r, dir); err != nil {
		return nil, err
	}
	at, err := mountpoint.Create(s.config.KubeletRoot, r.GetTargetPath())
	if err != nil {
		return nil, err
	}
	defer at.Close()
	flags, _, _ := filesystem.Parse(r.GetVolumeCapability().GetMount().GetMountFlags()) // readRequest checked them
	return &csi.NodePublishVolumeResponse{}, at.Bind(dir, flags|readOnlyFlag(r))
}

func readOnlyFlag(r *csi.NodePublishVolumeRequest) bind.Flags {
	if r.GetReadonly() || rpc.IsReadOnly(r.GetVolumeCapability()) {
		return bind.ReadOnly
	}
	return 0
}

// openPublished opens what a pod's path is bound to: the staging path or, for a whole pool, the
// client's mount. A volume whose client died since it was staged is staged again: the kubelet
// believes that it is staged and would not ask, and no pod of the node could use it.
func (s *Server) openPublished(ctx context.Context, id volumeid.ID, path string) (*safepath.Dir, error) {
	if id.Layout == schema.Single {
		return s.openDir(ctx, id)
	}
	if id.Layout != schema.Block && s.config.Clients != nil && s.config.Clients.HasOlder(ctx) {
		// New pods use the newest client, or pods that overlap would keep a former one for ever.
		if err := s.stage(ctx, id, path); err != nil {
			s.log.Info("volume not staged by the newest mounter; using the former one's client", "volume", id.String(),
				"error", err.Error())
		}
	}
	staged, err := s.openStaged(path)
	if !mountpoint.IsDead(err) || id.Layout == schema.Block {
		return staged, err
	}
	if err := s.stage(ctx, id, path); err != nil {
		return nil, err // such as that the client lives, and does not reach the pool
	}
	s.log.Info("client died; staged the volume again", "volume", id.String())
	return s.openStaged(path)
}

// publishDevice mounts the device node of a raw volume at a pod's path.
func (s *Server) publishDevice(ctx context.Context, id volumeid.ID, r *csi.NodePublishVolumeRequest) error {
	d, f, err := s.attach(ctx, id, r.GetVolumeCapability())
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.checkOnePodDevice(r, d); err != nil {
		return err
	}
	at, err := mountpoint.CreateFile(s.config.KubeletRoot, r.GetTargetPath())
	if err != nil {
		return err
	}
	defer at.Close()
	return at.BindDevice(d, f, readOnlyFlag(r))
}

// NodeUnpublishVolume unmounts a volume from a pod's path and removes the path.
func (s *Server) NodeUnpublishVolume(
	_ context.Context, r *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	if err := rpc.RequireFields("volume ID", r.GetVolumeId(), "target path", r.GetTargetPath()); err != nil {
		return nil, err
	}
	at, err := mountpoint.Find(s.config.KubeletRoot, r.GetTargetPath())
	if err != nil || at == nil {
		return &csi.NodeUnpublishVolumeResponse{}, err
	}
	defer at.Close()
	return &csi.NodeUnpublishVolumeResponse{}, at.Remove()
}
