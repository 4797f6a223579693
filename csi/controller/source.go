package controller

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// contentSource is the volume or snapshot of which a new volume is a copy.
type contentSource struct {
	pool string // "" is none: the volume starts empty
	key  string // backend.SnapshotKey or VolumeKey
}

// readContentSource reads the content source of a request.
func readContentSource(from *csi.VolumeContentSource) (contentSource, error) {
	switch {
	case from == nil:
		return contentSource{}, nil
	case from.GetSnapshot() != nil:
		id, err := volumeid.ParseSnapshot(from.GetSnapshot().GetSnapshotId())
		return contentSource{id.Pool, backend.SnapshotKey(id.Name)}, err
	case from.GetVolume() != nil:
		id, err := volumeid.Parse(from.GetVolume().GetVolumeId())
		if err == nil && id.Layout != schema.Block {
			err = rpc.Invalid("volume %s has layout %s; only volumes with layout Block can be cloned", id.Name,
				id.Layout)
		}
		return contentSource{id.Pool, backend.VolumeKey(id.Name)}, err
	}
	return contentSource{}, rpc.Invalid("the volume content source is neither a snapshot nor a volume")
}

// splitKey returns the name in a key, and whether it is that of a snapshot.
func splitKey(key string) (name string, isSnapshot bool) {
	if name, isSnapshot = strings.CutPrefix(key, backend.SnapshotKey("")); isSnapshot {
		return name, true
	}
	return strings.TrimPrefix(key, backend.VolumeKey("")), false
}

// open opens the source for copying.
func (s contentSource) open(b backend.Block) (*backend.Source, error) {
	name, isSnapshot := splitKey(s.key)
	if isSnapshot {
		return b.SnapshotSource(name)
	}
	return b.VolumeSource(name)
}

// stat reads the size and the file system of the source.
func (s contentSource) stat(ctx context.Context, b backend.Block) (size int64, fileSystem string, err error) {
	name, isSnapshot := splitKey(s.key)
	if isSnapshot {
		snapshot, err := b.Snapshot(name)
		return snapshot.Size, snapshot.FileSystem, err
	}
	v, err := b.Get(ctx, name)
	return v.Size, v.FileSystem, err
}

// message returns the source as responses have it.
func (s contentSource) message() *csi.VolumeContentSource {
	name, isSnapshot := splitKey(s.key)
	if isSnapshot {
		source := &csi.VolumeContentSource_SnapshotSource{
			SnapshotId: volumeid.Snapshot{Pool: s.pool, Name: name}.String(),
		}
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: source}}
	}
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{
		VolumeId: volumeid.ID{Pool: s.pool, Layout: schema.Block, Name: name}.String(),
	}}}
}
