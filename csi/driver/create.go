package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// defaultSize is what a volume gets that asks for none, in bytes.
const defaultSize = 1 << 30

// maxSize keeps sums of sizes within what an int64 holds, in bytes.
const maxSize = 1 << 60

// maxRequest is the longest name of a request (CSI specification: strings have at
// most 128 bytes), in bytes.
const maxRequest = 128

// sizeOf reads a capacity range.
func sizeOf(r *csi.CapacityRange) (size, limit int64, err error) {
	size, limit = r.GetRequiredBytes(), r.GetLimitBytes()
	switch {
	case size < 0 || limit < 0:
		return 0, 0, invalid("sizes are not negative")
	case limit > 0 && size > limit:
		return 0, 0, fmt.Errorf("%w: at least %d and at most %d bytes", errRange, size, limit)
	case size > maxSize:
		return 0, 0, fmt.Errorf("%w: %d bytes are more than any pool has", errRange, size)
	case size == 0:
		size = defaultSize
		if limit > 0 {
			size = min(size, limit)
		}
	}
	return size, limit, nil
}

// CreateVolume finds the volume of this request, or makes it in the pool of the
// class that has most room.
func (c *controller) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	class, claim, err := readCreate(r)
	if err != nil {
		return nil, err
	}
	release, err := c.locks.take(claim.Name)
	if err != nil {
		return nil, err
	}
	defer release()
	pools, troubles := c.candidates(ctx, class)
	defer func() {
		for _, o := range pools {
			o.Close()
		}
	}()
	if found, err := c.existing(ctx, pools, class, claim); found != nil || err != nil {
		return found, err
	}
	if before, begun := c.tried.Load(claim.Name); begun {
		i := slices.IndexFunc(pools, func(o *opened) bool { return o.Pool.Pool == before })
		if i < 0 {
			return nil, errors.Join(fmt.Errorf("%w: pool %s, where this volume was begun", mounts.ErrUnreachable, before), troubles)
		}
		pools[0], pools[i] = pools[i], pools[0] // it goes on where it was begun
	}
	var full error
	for _, o := range pools {
		answer, err := c.createIn(ctx, o, class, claim)
		if err == nil {
			return answer, nil
		}
		if !errors.Is(err, backend.ErrExhausted) {
			return nil, err
		}
		full = errors.Join(full, fmt.Errorf("pool %s: %w", o.Pool.Pool, err))
	}
	// A pool that is out of reach may have this volume or the room for it: that is
	// said first, because it passes.
	if err := errors.Join(troubles, full); err != nil {
		return nil, err
	}
	return nil, invalid("no pool fits the StorageClass: it takes %s", class.describe())
}

// readCreate holds the request to the rules.
func readCreate(r *csi.CreateVolumeRequest) (class, backend.CreateRequest, error) {
	claim := backend.CreateRequest{Request: r.GetName(), Name: volumeid.Name(r.GetName())}
	if r.GetName() == "" {
		return class{}, claim, invalid("a name is needed")
	}
	if len(r.GetName()) > maxRequest {
		return class{}, claim, invalid("the name has %d bytes, at most %d are allowed", len(r.GetName()), maxRequest)
	}
	if err := wellFormed(r.GetVolumeCapabilities()); err != nil {
		return class{}, claim, err
	}
	if err := reachable(r.GetAccessibilityRequirements()); err != nil {
		return class{}, claim, err
	}
	k, err := readClass(r.GetParameters())
	if err != nil {
		return k, claim, err
	}
	after, err := mutable(r.GetMutableParameters())
	if err != nil {
		return k, claim, err
	}
	k.reclaim, k.capabilities = cmp.Or(after, k.reclaim), r.GetVolumeCapabilities()
	if k.source, err = readSource(r.GetVolumeContentSource()); err != nil {
		return k, claim, err
	}
	k.sized, claim.Source = r.GetCapacityRange().GetRequiredBytes() > 0, k.source.key
	claim.Size, claim.Limit, err = sizeOf(r.GetCapacityRange())
	return k, claim, err
}

// candidates opens the pools of a class, most room first, and tells of those that
// cannot be used. The order is the same for the same room.
func (c *controller) candidates(ctx context.Context, k class) (pools []*opened, troubles error) {
	names, err := k.names(c.d)
	if err != nil {
		return nil, err
	}
	free := map[string]int64{}
	for _, name := range names {
		p, err := c.d.Catalog.Pool(name)
		if err != nil {
			if len(k.pools) > 0 { // a selector passes over what is broken
				troubles = errors.Join(troubles, err)
			}
			continue
		}
		if !k.takes(p) {
			continue
		}
		if err := k.serves(p); err != nil {
			troubles = errors.Join(troubles, err)
			continue
		}
		o, err := c.d.openPool(ctx, p, k.layoutIn(p))
		if err != nil {
			troubles = errors.Join(troubles, err)
			continue
		}
		pools = append(pools, o)
		if len(names) == 1 {
			break // nothing to choose from
		}
		if free[name], err = c.free(ctx, o, k); err != nil {
			troubles = errors.Join(troubles, err)
		}
	}
	slices.SortStableFunc(pools, func(a, b *opened) int {
		return cmp.Or(cmp.Compare(free[b.Pool.Pool], free[a.Pool.Pool]), cmp.Compare(a.Pool.Pool, b.Pool.Pool))
	})
	return pools, troubles
}

// free is what a pool can still promise for a class.
func (c *controller) free(ctx context.Context, o *opened, k class) (int64, error) {
	l, err := c.ledgers.of(ctx, o)
	if err != nil {
		return 0, err
	}
	s, err := o.space()
	if err != nil {
		return 0, err
	}
	if o.layout == schema.Single {
		if _, taken := l.Promised(); taken > 0 {
			return 0, nil
		}
		return s.Total, nil
	}
	return l.Free(s, k.overcommit), nil
}

// existing looks for the volume of a repeated request in all pools, before any
// pool is chosen anew.
func (c *controller) existing(ctx context.Context, pools []*opened, class class, claim backend.CreateRequest) (*csi.CreateVolumeResponse, error) {
	for _, o := range pools {
		v, err := o.backend.Get(ctx, claim.Name)
		if errors.Is(err, backend.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch {
		case claim.Source != "" && v.Source == claim.Source: // which may have gone by now
			claim, err = class.likeSource(claim, min(v.Size, claim.Size), v.FileSystem)
		case o.layout == schema.Block:
			claim, err = class.onBlocks(claim, "")
		}
		if err != nil {
			return nil, err
		}
		v, err = o.backend.Create(ctx, claim) // finds it, and compares
		if err != nil {
			return nil, err
		}
		return c.created(ctx, o, v)
	}
	return nil, nil
}

// createIn reserves room and makes the volume.
func (c *controller) createIn(ctx context.Context, o *opened, k class, claim backend.CreateRequest) (*csi.CreateVolumeResponse, error) {
	claim.Reclaim, claim.Overcommit = cmp.Or(k.reclaim, o.Reclaim), k.overcommit
	if claim.Source != "" {
		return c.copyIn(ctx, o, k, claim)
	}
	if o.layout == schema.Block {
		var err error
		if claim, err = k.onBlocks(claim, ""); err != nil {
			return nil, err
		}
	}
	l, err := c.ledgers.of(ctx, o)
	if err != nil {
		return nil, err
	}
	s, err := o.space()
	if err != nil {
		return nil, err
	}
	undo := func() {}
	if o.layout == schema.Single {
		// The whole pool, whatever was asked for, if it is large enough.
		if claim.Size > s.Total {
			return nil, fmt.Errorf("%w: %d bytes are asked for, the whole pool has %d", backend.ErrExhausted, claim.Size, s.Total)
		}
	} else if undo, err = l.Reserve(promise(o.layout, claim.Name), claim.Size, s, k.overcommit); err != nil {
		return nil, err
	}
	c.tried.Store(claim.Name, o.Pool.Pool)
	v, err := o.backend.Create(ctx, claim)
	if err != nil {
		undo()
		return nil, err
	}
	c.tried.Delete(claim.Name)
	l.Set(promise(o.layout, v.Name), v.Size)
	return c.created(ctx, o, v)
}

// created answers with a volume that has its record, once it is held to its size.
func (c *controller) created(ctx context.Context, o *opened, v backend.Volume) (*csi.CreateVolumeResponse, error) {
	id := volumeid.ID{Pool: o.Pool.Pool, Layout: o.layout, Name: v.Name}
	answer := &csi.Volume{VolumeId: id.String(), CapacityBytes: v.Size, AccessibleTopology: []*csi.Topology{everywhere()}}
	if v.Source != "" {
		answer.ContentSource = content(o.Pool.Pool, v.Source)
	}
	mode, err := c.limit(ctx, o, v)
	if err != nil {
		return nil, err
	}
	if mode != "" {
		answer.VolumeContext = map[string]string{quota.ContextKey: string(mode)}
	}
	return &csi.CreateVolumeResponse{Volume: answer}, nil
}

// limit holds a volume to the size in its record; the mode is "" where nothing can be larger.
func (c *controller) limit(ctx context.Context, o *opened, v backend.Volume) (quota.Mode, error) {
	folders, are := o.backend.(backend.Folders)
	if !are || folders.Folder(v.Name) == "" { // a device has its size, and a whole pool has no other
		return "", nil
	}
	mode, err := c.d.limiter().Limit(ctx, o.Pool, folders.Folder(v.Name), v.Size)
	if err != nil {
		return "", fmt.Errorf("%w: pool %s: %w", errUnlimited, o.Pool.Pool, err)
	}
	return mode, nil
}

// describe names what a class takes.
func (c class) describe() string {
	if at := c.source.pool; at != "" {
		c.source.pool = ""
		return fmt.Sprintf("%s, and a copy is made in the pool of its source, %s", c.describe(), at)
	}
	if len(c.pools) > 0 {
		return fmt.Sprintf("pools %v that serve %s", c.pools, cmp.Or(string(c.layout), "anything"))
	}
	return fmt.Sprintf("pools with %v that serve %s", c.selector, cmp.Or(string(c.layout), "anything"))
}
