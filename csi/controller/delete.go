package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/controller/capacity"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// DeleteVolume makes a volume disappear at once; its data is removed in the background. An
// unparsable ID is not from this driver; it is reported as deleted.
func (s *Server) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if err := rpc.RequireFields("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	id, err := volumeid.Parse(r.GetVolumeId())
	if err != nil {
		s.log.Info("no volume of Atoll to delete", "id", r.GetVolumeId())
		return &csi.DeleteVolumeResponse{}, nil
	}
	err = s.delete(ctx, deletion{
		pool: id.Pool, layout: id.Layout, key: backend.VolumeKey(id.Name), ledgerKey: capacity.Key(id.Layout, id.Name),
		delete: func(h *pool.Handle) error { return h.Backend.Delete(ctx, id.Name) },
	})
	if err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// DeleteSnapshot makes a snapshot disappear at once. An unparsable ID is not from this driver;
// it is reported as deleted.
func (s *Server) DeleteSnapshot(
	ctx context.Context, r *csi.DeleteSnapshotRequest,
) (*csi.DeleteSnapshotResponse, error) {
	if err := rpc.RequireFields("snapshot ID", r.GetSnapshotId()); err != nil {
		return nil, err
	}
	id, err := volumeid.ParseSnapshot(r.GetSnapshotId())
	if err != nil {
		s.log.Info("no snapshot of Atoll to delete", "id", r.GetSnapshotId())
		return &csi.DeleteSnapshotResponse{}, nil
	}
	key := backend.SnapshotKey(id.Name)
	err = s.delete(ctx, deletion{
		pool: id.Pool, layout: schema.Block, key: key, ledgerKey: key,
		delete: func(h *pool.Handle) error { return h.Blocks().DeleteSnapshot(id.Name) },
	})
	if err != nil {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// deletion is the deletion of a volume or a snapshot.
type deletion struct {
	pool      string
	layout    schema.Layout
	key       string // of a copy in progress that may become it
	ledgerKey string
	delete    func(*pool.Handle) error
}

// delete deletes a volume or a snapshot, frees its space in the ledger, and has the trash
// emptied.
func (s *Server) delete(ctx context.Context, d deletion) error {
	if s.jobs.isRunning(d.key) {
		return rpc.ErrBusy
	}
	h, err := s.pools.Open(ctx, d.pool, d.layout)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := s.ledgers.Of(ctx, h)
	if err != nil {
		return err
	}
	if err := d.delete(h); err != nil {
		return err
	}
	l.Forget(d.ledgerKey)
	s.sweeper.Wake(d.pool, d.layout)
	return nil
}
