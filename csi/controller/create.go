package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/controller/capacity"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/csi/topology"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// CreateVolume finds the volume of an earlier request with this name, or creates it in the
// pool of the class with the most free space.
func (s *Server) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	request, err := readVolumeRequest(r)
	if err != nil {
		return nil, err
	}
	pools, problems := s.candidates(ctx, request)
	defer func() {
		for _, h := range pools {
			h.Close()
		}
	}()
	if found, err := s.existing(ctx, pools, request); found != nil || err != nil {
		return found, err
	}
	if before, ok := s.begun.Load(request.volume.Name); ok {
		i := slices.IndexFunc(pools, func(h *pool.Handle) bool { return h.Name() == before })
		if i < 0 {
			return nil, errors.Join(fmt.Errorf("%w: pool %s, in which an earlier call began to create this volume",
				mounts.ErrUnreachable, before), problems)
		}
		pools[0], pools[i] = pools[i], pools[0]
	}
	var full error
	for _, h := range pools {
		response, err := s.createIn(ctx, h, request)
		if err == nil {
			return response, nil
		}
		if !errors.Is(err, backend.ErrExhausted) {
			return nil, err
		}
		full = errors.Join(full, fmt.Errorf("pool %s: %w", h.Name(), err))
	}
	switch {
	case problems != nil && full != nil:
		// A pool that cannot be reached may have this volume, or space for it. Its error decides the
		// code, because it is temporary.
		return nil, fmt.Errorf("%w\n%s", problems, full.Error())
	case problems != nil || full != nil:
		return nil, errors.Join(problems, full)
	}
	return nil, rpc.Invalid("no pool fits the StorageClass, which allows %s", request)
}

// existing looks for the volume of a repeated request in all pools; nil when none has it.
func (s *Server) existing(
	ctx context.Context, pools []*pool.Handle, r volumeRequest,
) (*csi.CreateVolumeResponse, error) {
	for _, h := range pools {
		v, err := h.Backend.Get(ctx, r.volume.Name)
		if errors.Is(err, backend.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch {
		case r.volume.Source != "" && v.Source == r.volume.Source: // the source may be deleted
			r, err = r.forCopy(min(v.Size, r.volume.Size), v.FileSystem)
		case h.Layout == schema.Block:
			r, err = r.forBlock("")
		}
		if err != nil {
			return nil, err
		}
		v, err = h.Backend.Create(ctx, r.volume) // finds the volume and compares it
		if err != nil {
			return nil, err
		}
		return s.created(ctx, h, v, r.Recovery)
	}
	return nil, nil
}

// createIn reserves space in a pool and creates the volume.
func (s *Server) createIn(ctx context.Context, h *pool.Handle, r volumeRequest) (*csi.CreateVolumeResponse, error) {
	r.volume.Reclaim, r.volume.Overcommit = cmp.Or(r.Reclaim, h.Reclaim), r.Overcommit
	if r.volume.Source != "" {
		return s.createCopy(ctx, h, r)
	}
	if h.Layout == schema.Block {
		var err error
		if r, err = r.forBlock(""); err != nil {
			return nil, err
		}
	}
	l, err := s.ledgers.Of(ctx, h)
	if err != nil {
		return nil, err
	}
	space, err := h.Space()
	if err != nil {
		return nil, err
	}
	key, undo := capacity.Key(h.Layout, r.volume.Name), func() {}
	if h.Layout == schema.Single {
		// The volume is the whole pool, which must be large enough.
		if r.volume.Size > space.Total {
			return nil, fmt.Errorf("%w: %d bytes requested, the whole pool has %d", backend.ErrExhausted, r.volume.Size,
				space.Total)
		}
	} else if undo, err = l.Reserve(key, r.volume.Size, space, r.Overcommit); err != nil {
		return nil, err
	}
	s.begun.Store(r.volume.Name, h.Name())
	v, err := h.Backend.Create(ctx, r.volume)
	if err != nil {
		undo()
		return nil, err
	}
	s.begun.Delete(r.volume.Name)
	l.Set(key, v.Size)
	return s.created(ctx, h, v, r.Recovery)
}

// createCopy creates a volume that is a copy.
func (s *Server) createCopy(ctx context.Context, h *pool.Handle, r volumeRequest) (*csi.CreateVolumeResponse, error) {
	if h.Layout != schema.Block {
		return nil, rpc.Invalid("volumes with layout %s cannot be created from snapshots or other volumes", h.Layout)
	}
	size, fileSystem, err := r.source.stat(ctx, h.Blocks())
	if err != nil {
		return nil, err
	}
	if r, err = r.forCopy(size, fileSystem); err != nil {
		return nil, err
	}
	name := r.volume.Name
	s.begun.Store(name, h.Name())
	err = s.copy(ctx, h.Pool, copyRequest{
		key: backend.VolumeKey(name), ledgerKey: capacity.Key(schema.Block, name), size: r.volume.Size,
		overcommit: r.Overcommit, open: r.source.open,
		finish: func(c *backend.Copy, _ *backend.Source, _ time.Time) (int64, error) {
			v, err := c.BecomeVolume(r.volume)
			return v.Size, err
		},
	})
	if err != nil {
		return nil, err
	}
	s.begun.Delete(name)
	v, err := h.Backend.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.created(ctx, h, v, r.Recovery)
}

// created enforces the size of a volume that has its record, and returns the response.
func (s *Server) created(
	ctx context.Context, h *pool.Handle, v backend.Volume, recovery schema.Recovery,
) (*csi.CreateVolumeResponse, error) {
	id := volumeid.ID{Pool: h.Name(), Layout: h.Layout, Name: v.Name}
	volume := &csi.Volume{
		VolumeId: id.String(), CapacityBytes: v.Size,
		AccessibleTopology: []*csi.Topology{topology.Everywhere()},
	}
	if v.Source != "" {
		volume.ContentSource = contentSource{h.Name(), v.Source}.message()
	}
	mode, err := s.limit(ctx, h, v)
	if err != nil {
		return nil, err
	}
	volume.VolumeContext = map[string]string{}
	if mode != "" {
		volume.VolumeContext[quota.ContextKey] = string(mode)
	}
	if recovery != "" {
		volume.VolumeContext[schema.ParameterRecovery] = string(recovery)
	}
	return &csi.CreateVolumeResponse{Volume: volume}, nil
}
