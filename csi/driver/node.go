package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// node brings volumes to the pods of its node. It keeps nothing in memory: what is
// mounted where, the kernel knows.
type node struct {
	csi.UnimplementedNodeServer
	d     *Driver
	locks locks
}

// NodeGetCapabilities lists what the service does.
func (n *node) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	answer := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return answer, nil
}

// NodeGetInfo names the node and its place. There is no limit to the number of volumes.
func (n *node) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.d.NodeID, AccessibleTopology: everywhere()}, nil
}

// NodeStageVolume binds the volume's folder to the staging path.
func (n *node) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	id, release, err := n.begin(r.GetVolumeId(), r.GetVolumeCapability(), "staging path", r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	defer release()
	if id.Layout == schema.Block {
		return &csi.NodeStageVolumeResponse{}, n.stageBlock(ctx, id, r.GetStagingTargetPath(), r.GetVolumeCapability())
	}
	return &csi.NodeStageVolumeResponse{}, n.stage(ctx, id, r.GetStagingTargetPath())
}

// stage binds a volume that is there to its staging path, in place of a mount whose
// client has gone. A whole pool is not mounted there (ADR 0018).
func (n *node) stage(ctx context.Context, id volumeid.ID, path string) error {
	folder, err := n.folder(ctx, id)
	if err != nil {
		return err
	}
	defer folder.Close()
	at, err := n.target(path, true)
	if err != nil {
		return err
	}
	defer at.Close()
	if id.Layout == schema.Single {
		return at.unmountAll()
	}
	return at.bind(folder, 0)
}

// folder opens a volume's folder.
func (n *node) folder(ctx context.Context, id volumeid.ID) (*safepath.Dir, error) {
	o, err := n.d.open(ctx, id.Pool, id.Layout)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	folders, err := o.folders()
	if err != nil {
		return nil, err
	}
	return folders.Open(id.Name)
}

// begin holds what stage and publish need of a request, and takes the volume for it.
func (n *node) begin(volume string, c *csi.VolumeCapability, fields ...string) (id volumeid.ID, release func(), err error) {
	if err := given(append([]string{"volume ID", volume}, fields...)...); err != nil {
		return id, nil, err
	}
	if err := wellFormed([]*csi.VolumeCapability{c}); err != nil {
		return id, nil, err
	}
	if id, err = volumeid.Parse(volume); err != nil {
		return id, nil, err
	}
	if err := check(c, id.Layout); err != nil {
		return id, nil, err
	}
	release, err = n.locks.take(id.String())
	return id, release, err
}

// given holds that fields of a request, by name and value, are not empty.
func given(fields ...string) error {
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i+1] == "" {
			return invalid("a %s is needed", fields[i])
		}
	}
	return nil
}

// NodeUnstageVolume takes the staging mount away.
func (n *node) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if id, err := volumeid.Parse(r.GetVolumeId()); err == nil && id.Layout == schema.Block {
		return &csi.NodeUnstageVolumeResponse{}, n.unstageBlock(ctx, id, r.GetStagingTargetPath())
	}
	return &csi.NodeUnstageVolumeResponse{}, n.unmount(r.GetVolumeId(), r.GetStagingTargetPath(), false)
}

// NodeUnpublishVolume takes the pod's mount away, and its folder.
func (n *node) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	return &csi.NodeUnpublishVolumeResponse{}, n.unmount(r.GetVolumeId(), r.GetTargetPath(), true)
}

func (n *node) unmount(volume, path string, remove bool) error {
	if err := given("volume ID", volume, "path", path); err != nil {
		return err
	}
	release, err := n.locks.take(volume)
	if err != nil {
		return err
	}
	defer release()
	at, err := n.target(path, false)
	if err != nil || at == nil {
		return err
	}
	defer at.Close()
	return at.unmount(remove)
}

// NodePublishVolume binds the staged volume to a pod's path. If the client that it
// was staged from has gone, it is staged anew: the kubelet takes it for staged and
// would not ask, and no pod of the node could have the volume again.
func (n *node) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	id, release, err := n.begin(r.GetVolumeId(), r.GetVolumeCapability(), "target path", r.GetTargetPath(), "staging path", r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	defer release()
	if r.GetVolumeCapability().GetBlock() != nil {
		return &csi.NodePublishVolumeResponse{}, n.publishDevice(ctx, id, r)
	}
	if id.Layout == schema.Block {
		if err := n.restageBlock(ctx, id, r); err != nil {
			return nil, err
		}
	}
	staged, err := n.source(ctx, id, r.GetStagingTargetPath())
	if err != nil {
		return nil, err
	}
	defer staged.Close()
	if err := exclusive(r, staged); err != nil {
		return nil, err
	}
	at, err := n.target(r.GetTargetPath(), true)
	if err != nil {
		return nil, err
	}
	defer at.Close()
	flags, _, _ := filesystem.Parse(r.GetVolumeCapability().GetMount().GetMountFlags()) // checked above
	if r.GetReadonly() || readsOnly(r.GetVolumeCapability()) {
		flags |= bind.ReadOnly
	}
	return &csi.NodePublishVolumeResponse{}, at.bind(staged, flags)
}

// source is what a pod's path shows: what is staged or, of a whole pool, the client's mount.
func (n *node) source(ctx context.Context, id volumeid.ID, path string) (*safepath.Dir, error) {
	if id.Layout == schema.Single {
		return n.folder(ctx, id)
	}
	staged, err := n.staged(path)
	if !isDead(err) || id.Layout == schema.Block {
		return staged, err
	}
	n.d.Log.Info("staging a volume anew, its client has gone", "volume", id.String())
	if err := n.stage(ctx, id, path); err != nil {
		return nil, err
	}
	return n.staged(path)
}
