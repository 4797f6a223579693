package driver

import (
	"context"
	"errors"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// controller makes, changes and deletes volumes.
type controller struct {
	csi.UnimplementedControllerServer
	d       *Driver
	locks   locks
	ledgers ledgers
	sweeper *sweeper
	// tried is the pool, by volume, in which a creation was begun and not ended
	// well: it may have the volume, so a repeat goes nowhere else.
	tried sync.Map
	jobs  jobs // copies that are being made
}

func newController(d *Driver) *controller {
	return &controller{d: d, ledgers: ledgers{d: d}, sweeper: newSweeper(d)}
}

// controllerCapabilities are the calls of the service that are answered.
var controllerCapabilities = []csi.ControllerServiceCapability_RPC_Type{
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
	csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
	csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
	csi.ControllerServiceCapability_RPC_GET_CAPACITY,
	csi.ControllerServiceCapability_RPC_GET_VOLUME,
	csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
	csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
	csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
	csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
}

// ControllerGetCapabilities lists them.
func (c *controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range controllerCapabilities {
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return answer, nil
}

// DeleteVolume makes a volume disappear at once and leaves its data to the
// background. What is no ID of ours is no volume of ours, and is gone already.
func (c *controller) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if err := given("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	id, err := volumeid.Parse(r.GetVolumeId())
	if err != nil {
		c.d.Log.Info("asked to delete what is no volume", "id", r.GetVolumeId())
		return &csi.DeleteVolumeResponse{}, nil
	}
	d := deletion{pool: id.Pool, layout: id.Layout, lock: id.Name, key: backend.VolumeKey(id.Name), promise: promise(id.Layout, id.Name)}
	if err := c.delete(ctx, d, func(o *opened) error { return o.backend.Delete(ctx, id.Name) }); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// deletion is of a volume or a snapshot.
type deletion struct {
	pool    string
	layout  schema.Layout
	lock    string // of calls
	key     string // of a copy that may be becoming it
	promise string // in the ledger
}

// delete deletes something that no other call works on, and takes its promise back.
func (c *controller) delete(ctx context.Context, d deletion, from func(*opened) error) error {
	release, err := c.locks.take(d.lock)
	if err != nil {
		return err
	}
	defer release()
	if c.jobs.run(d.key) {
		return errBusy
	}
	o, err := c.d.open(ctx, d.pool, d.layout)
	if err != nil {
		return err
	}
	defer o.Close()
	l, err := c.ledgers.of(ctx, o)
	if err != nil {
		return err
	}
	if err := from(o); err != nil {
		return err
	}
	l.Forget(d.promise)
	c.sweeper.wake(d.pool, d.layout)
	return nil
}

// volume opens the pool of an ID and reads the volume.
func (c *controller) volume(ctx context.Context, text string) (id volumeid.ID, o *opened, v backend.Volume, err error) {
	if err := given("volume ID", text); err != nil {
		return id, nil, v, err
	}
	if id, err = volumeid.Parse(text); err != nil {
		return id, nil, v, err
	}
	if o, err = c.d.open(ctx, id.Pool, id.Layout); err != nil {
		return id, nil, v, err
	}
	if v, err = o.backend.Get(ctx, id.Name); err != nil {
		return id, nil, v, errors.Join(err, o.Close())
	}
	return id, o, v, nil
}

// ValidateVolumeCapabilities confirms what a volume can do.
func (c *controller) ValidateVolumeCapabilities(ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if len(r.GetVolumeCapabilities()) == 0 {
		return nil, invalid("volume capabilities are needed")
	}
	id, o, v, err := c.volume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if err := checkAll(r.GetVolumeCapabilities(), id.Layout, v.Shared); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(), Parameters: r.GetParameters(),
	}}, nil
}

// ControllerGetVolume reads one volume.
func (c *controller) ControllerGetVolume(ctx context.Context, r *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	id, o, v, err := c.volume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return &csi.ControllerGetVolumeResponse{
		Volume: &csi.Volume{VolumeId: id.String(), CapacityBytes: v.Size},
		Status: &csi.ControllerGetVolumeResponse_VolumeStatus{},
	}, nil
}

// ControllerGetVolumeHealth tells whether a volume can be reached from here.
func (c *controller) ControllerGetVolumeHealth(ctx context.Context, r *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	_, o, _, err := c.volume(ctx, r.GetVolumeId())
	switch {
	case errors.Is(err, mounts.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: inaccessible(r.GetVolumeId(), "PoolUnreachable", err.Error())}, nil
	case err != nil:
		return nil, err
	}
	defer o.Close()
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: &csi.VolumeHealth{VolumeId: r.GetVolumeId()}}, nil
}

// ControllerExpandVolume promises more to a volume. Nodes have something to do when it is a
// device.
func (c *controller) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	size, _, err := sizeOf(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	if r.GetCapacityRange() == nil {
		return nil, invalid("a capacity range is needed")
	}
	id, o, v, err := c.volume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer o.Close()
	release, err := c.locks.take(id.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := c.ledgers.of(ctx, o)
	if err != nil {
		return nil, err
	}
	if id.Layout == schema.Block {
		size = (size + blockUnit - 1) / blockUnit * blockUnit
	}
	undo := func() {}
	if id.Layout != schema.Single && size > v.Size {
		space, err := o.space()
		if err != nil {
			return nil, err
		}
		if undo, err = l.Reserve(promise(id.Layout, id.Name), size, space, v.Overcommit); err != nil {
			return nil, err
		}
	}
	if v, err = o.backend.Expand(ctx, id.Name, size); err != nil {
		undo()
		return nil, err
	}
	if _, err := c.limit(ctx, o, v); err != nil {
		return nil, err
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.Size, NodeExpansionRequired: id.Layout == schema.Block}, nil
}

// ControllerModifyVolume changes what becomes of the data of a deleted volume.
func (c *controller) ControllerModifyVolume(ctx context.Context, r *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	id, o, _, err := c.volume(ctx, r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	defer o.Close()
	after, err := mutable(r.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	release, err := c.locks.take(id.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	if after != "" {
		if _, err := o.backend.SetReclaim(ctx, id.Name, after); err != nil {
			return nil, err
		}
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}

// mutable reads the parameters of a VolumeAttributesClass; "" when there are none.
func mutable(parameters map[string]string) (schema.Reclaim, error) {
	after := schema.Reclaim("")
	for name, value := range parameters {
		if name != schema.ParameterReclaim {
			return "", invalid("the parameter %q cannot change; a VolumeAttributesClass of Atoll has reclaim", name)
		}
		var err error
		if after, err = readReclaim(value); err != nil {
			return "", err
		}
	}
	return after, nil
}
