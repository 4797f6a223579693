package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// errNoNode says that a node is not one of the cluster's on which the driver runs.
var errNoNode = errors.New("there is no such node with this driver")

// ControllerPublishVolume lets a volume go to a node. Of files there is nothing to hold back;
// a block volume goes nowhere while its lock is held on another node, whatever its record
// says, unless that says that it is shared. The node takes it for itself when it is staged there.
func (c *controller) ControllerPublishVolume(ctx context.Context, r *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if err := given("volume ID", r.GetVolumeId(), "node ID", r.GetNodeId()); err != nil {
		return nil, err
	}
	if err := wellFormed([]*csi.VolumeCapability{r.GetVolumeCapability()}); err != nil {
		return nil, err
	}
	id, o, v, err := c.volume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if err := checkFor(r.GetVolumeCapability(), id.Layout, v.Shared); err != nil {
		return nil, err
	}
	if err := c.isNode(ctx, r.GetNodeId()); err != nil {
		return nil, err
	}
	if blocks, are := o.backend.(backend.Block); are {
		if err := blocks.Free(id.Name, r.GetNodeId()); err != nil {
			return nil, err
		}
	}
	return &csi.ControllerPublishVolumeResponse{}, nil
}

// isNode holds that a node is known, if that can be told.
func (c *controller) isNode(ctx context.Context, node string) error {
	if c.d.Nodes == nil {
		return nil
	}
	known, err := c.d.Nodes(ctx, node)
	if err == nil && !known {
		err = fmt.Errorf("%w: %s", errNoNode, node)
	}
	return err
}

// ControllerUnpublishVolume takes a volume from a node. The node has given it back when it
// was unstaged there; one that has not, because it is cut off or dead, loses it at the
// bricks, and not by what is said here.
func (c *controller) ControllerUnpublishVolume(_ context.Context, r *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	if err := given("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	if _, err := volumeid.Parse(r.GetVolumeId()); err != nil {
		c.d.Log.Info("asked to take back what is no volume", "id", r.GetVolumeId())
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}
