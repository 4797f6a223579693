package driver

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// source is what a volume's first content is to be a copy of.
type source struct {
	pool string // "" is nothing: the volume begins empty
	key  string // backend.SnapshotKey or VolumeKey
}

// readSource reads the content source of a request.
func readSource(from *csi.VolumeContentSource) (source, error) {
	switch {
	case from == nil:
		return source{}, nil
	case from.GetSnapshot() != nil:
		id, err := volumeid.ParseSnapshot(from.GetSnapshot().GetSnapshotId())
		return source{id.Pool, backend.SnapshotKey(id.Name)}, err
	case from.GetVolume() != nil:
		id, err := volumeid.Parse(from.GetVolume().GetVolumeId())
		if err == nil && id.Layout != schema.Block {
			err = invalid("volume %s has layout %s; copies are made of volumes with layout Block", id.Name, id.Layout)
		}
		return source{id.Pool, backend.VolumeKey(id.Name)}, err
	}
	return source{}, invalid("the source of the volume's content is neither a snapshot nor a volume")
}

// named gives the name of what a key names, and whether that is a snapshot, or a volume.
func named(key string) (name string, isSnapshot bool) {
	if name, isSnapshot = strings.CutPrefix(key, backend.SnapshotKey("")); isSnapshot {
		return name, true
	}
	return strings.TrimPrefix(key, backend.VolumeKey("")), false
}

// open opens it.
func (s source) open(b backend.Block) (*backend.Source, error) {
	name, isSnapshot := named(s.key)
	if isSnapshot {
		return b.SnapshotSource(name)
	}
	return b.VolumeSource(name)
}

// describe reads what the source is, without keeping it.
func (s source) describe(b backend.Block) (size int64, fileSystem string, err error) {
	name, isSnapshot := named(s.key)
	if isSnapshot {
		snapshot, err := b.Snapshot(name)
		return snapshot.Size, snapshot.FileSystem, err
	}
	v, err := b.Get(context.Background(), name)
	return v.Size, v.FileSystem, err
}

// content is the source as an answer has it.
func content(pool, key string) *csi.VolumeContentSource {
	name, isSnapshot := named(key)
	if isSnapshot {
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{
			SnapshotId: volumeid.Snapshot{Pool: pool, Name: name}.String(),
		}}}
	}
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{
		VolumeId: volumeid.ID{Pool: pool, Layout: schema.Block, Name: name}.String(),
	}}}
}

// likeSource makes a claim for a copy what its source is, where it leaves that open: a volume
// of unspecified size is as large, and has the same file system.
func (k class) likeSource(claim backend.CreateRequest, size int64, fileSystem string) (backend.CreateRequest, error) {
	if !k.sized {
		claim.Size = size
	}
	claim, err := k.onBlocks(claim, fileSystem)
	if err != nil {
		return claim, err
	}
	if claim.FileSystem != fileSystem {
		return claim, invalid("the source has %s on it, and the copy would have too; %s was asked for", cmp.Or(fileSystem, "nothing (volumeMode Block)"), cmp.Or(claim.FileSystem, "nothing (volumeMode Block)"))
	}
	if claim.Size < size {
		return claim, fmt.Errorf("%w: the source has %d bytes, and a copy is not smaller", errRange, size)
	}
	return claim, nil
}

// copyIn makes a volume that is a copy.
func (c *controller) copyIn(ctx context.Context, o *opened, k class, claim backend.CreateRequest) (*csi.CreateVolumeResponse, error) {
	if o.layout != schema.Block {
		return nil, invalid("volumes of layout %s cannot be made from snapshots or other volumes", o.layout)
	}
	size, fileSystem, err := k.source.describe(o.blocks())
	if err != nil {
		return nil, err
	}
	if claim, err = k.likeSource(claim, size, fileSystem); err != nil {
		return nil, err
	}
	making := making{
		key: backend.VolumeKey(claim.Name), promise: promise(schema.Block, claim.Name), size: claim.Size, overcommit: k.overcommit, open: k.source.open,
	}
	c.tried.Store(claim.Name, o.Pool.Pool)
	err = c.make(ctx, o, making, func(made *backend.Copy, _ *backend.Source, _ time.Time) (int64, error) {
		v, err := made.BecomeVolume(claim)
		return v.Size, err
	})
	if err != nil {
		return nil, err
	}
	c.tried.Delete(claim.Name)
	v, err := o.backend.Get(ctx, claim.Name)
	if err != nil {
		return nil, err
	}
	return c.created(ctx, o, v)
}
