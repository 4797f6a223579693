package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/controller/params"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// CreateSnapshot finds the snapshot of an earlier request with this name, or creates it. The
// snapshot is ready when the call returns.
func (s *Server) CreateSnapshot(
	ctx context.Context, r *csi.CreateSnapshotRequest,
) (*csi.CreateSnapshotResponse, error) {
	if err := rpc.CheckName(r.GetName()); err != nil {
		return nil, err
	}
	if err := rpc.RequireFields("source volume ID", r.GetSourceVolumeId()); err != nil {
		return nil, err
	}
	pause, err := params.ReadSnapshot(r.GetParameters())
	if err != nil {
		return nil, err
	}
	id, h, v, err := s.openVolume(ctx, r.GetSourceVolumeId())
	if err != nil {
		return nil, err
	}
	defer h.Close()
	if id.Layout != schema.Block {
		return nil, rpc.Invalid("volume %s has layout %s; snapshots are of volumes with layout Block", id.Name,
			id.Layout)
	}
	name := volumeid.Name(r.GetName())
	snapshot, err := h.Blocks().Snapshot(name)
	if errors.Is(err, backend.ErrNoSnapshot) {
		if err := s.createSnapshot(ctx, h, v, r.GetName(), name, pause); err != nil {
			return nil, err
		}
		snapshot, err = h.Blocks().Snapshot(name)
	}
	if err != nil {
		return nil, err
	}
	if snapshot.Volume != id.Name || snapshot.Request != r.GetName() {
		return nil, fmt.Errorf("%w: snapshot %s is of volume %s", backend.ErrExists, snapshot.Request, snapshot.Volume)
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshotMessage(id.Pool, snapshot)}, nil
}

// createSnapshot creates a snapshot that does not exist.
func (s *Server) createSnapshot(
	ctx context.Context, h *pool.Handle, v backend.Volume, request, name string, pause time.Duration,
) error {
	used, err := h.Blocks().Used(v.Name)
	if err != nil {
		return err
	}
	return s.copy(ctx, h.Pool, copyRequest{
		key: backend.SnapshotKey(name), ledgerKey: backend.SnapshotKey(name), size: used, overcommit: v.Overcommit,
		pause: pause,
		open:  func(b backend.Block) (*backend.Source, error) { return b.VolumeSource(v.Name) },
		finish: func(c *backend.Copy, source *backend.Source, at time.Time) (int64, error) {
			return source.Used, c.BecomeSnapshot(backend.Snapshot{
				Name: name, Request: request, Volume: v.Name, Size: source.Size, Used: source.Used, Created: at,
				FileSystem: source.FileSystem, Formatted: source.Formatted,
			})
		},
	})
}

// ListSnapshots lists snapshots by ID: all, those of a volume, or one. Unknown IDs give an
// empty list.
func (s *Server) ListSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	entries, err := s.listSnapshots(ctx, r)
	if err != nil {
		return nil, err
	}
	response := &csi.ListSnapshotsResponse{}
	response.Entries, response.NextToken, err = page(entries, snapshotIDOf, r.GetStartingToken(), r.GetMaxEntries())
	return response, err
}

func snapshotIDOf(e *csi.ListSnapshotsResponse_Entry) string { return e.GetSnapshot().GetSnapshotId() }

// listSnapshots lists the snapshots that a request asks for.
func (s *Server) listSnapshots(
	ctx context.Context, r *csi.ListSnapshotsRequest,
) ([]*csi.ListSnapshotsResponse_Entry, error) {
	source, snapshot := r.GetSourceVolumeId(), r.GetSnapshotId()
	var names []string
	var err error
	switch {
	case snapshot != "":
		id, err := volumeid.ParseSnapshot(snapshot)
		if err != nil {
			return nil, nil //nolint:nilerr // no such snapshot
		}
		return s.listOne(ctx, id, source)
	case source != "":
		id, err := volumeid.Parse(source)
		if err != nil || id.Layout != schema.Block {
			return nil, nil //nolint:nilerr // the volume has no snapshots
		}
		names = []string{id.Pool}
	default:
		if names, err = s.pools.Catalog.Names(); err != nil {
			return nil, err
		}
	}
	var entries []*csi.ListSnapshotsResponse_Entry
	for _, name := range names {
		p, err := s.pools.Catalog.Pool(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(p.Layouts, schema.Block) {
			continue
		}
		all, err := s.pools.Snapshots(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("list the snapshots of pool %s: %w", name, err)
		}
		entries = append(entries, snapshotEntries(name, source, all...)...)
	}
	return entries, nil
}

func (s *Server) listOne(
	ctx context.Context, id volumeid.Snapshot, source string,
) ([]*csi.ListSnapshotsResponse_Entry, error) {
	h, err := s.pools.Open(ctx, id.Pool, schema.Block)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	snapshot, err := h.Blocks().Snapshot(id.Name)
	if errors.Is(err, backend.ErrNoSnapshot) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return snapshotEntries(id.Pool, source, snapshot), nil
}

// snapshotEntries returns the snapshots of a source volume, by its ID; of all when that is "".
func snapshotEntries(pool, source string, all ...backend.Snapshot) (entries []*csi.ListSnapshotsResponse_Entry) {
	for _, s := range all {
		if m := snapshotMessage(pool, s); source == "" || m.GetSourceVolumeId() == source {
			entries = append(entries, &csi.ListSnapshotsResponse_Entry{Snapshot: m})
		}
	}
	return entries
}

func snapshotMessage(pool string, s backend.Snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId:     volumeid.Snapshot{Pool: pool, Name: s.Name}.String(),
		SourceVolumeId: volumeid.ID{Pool: pool, Layout: schema.Block, Name: s.Volume}.String(),
		SizeBytes:      s.Size, CreationTime: timestamppb.New(s.Created), ReadyToUse: true,
	}
}
