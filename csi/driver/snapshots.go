package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/copies"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// parameterPause is that of a VolumeSnapshotClass: how long a volume in use may stand still.
const parameterPause = "pauseLimit"

// CreateSnapshot makes a snapshot of a volume of blocks, or finds the one of this request.
// When it answers, the snapshot can be used.
func (c *controller) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	if err := given("name", r.GetName(), "source volume ID", r.GetSourceVolumeId()); err != nil {
		return nil, err
	}
	if len(r.GetName()) > maxRequest {
		return nil, invalid("the name has %d bytes, at most %d are allowed", len(r.GetName()), maxRequest)
	}
	pause, err := readPause(r.GetParameters())
	if err != nil {
		return nil, err
	}
	name := volumeid.Name(r.GetName())
	release, err := c.locks.take(backend.SnapshotKey(name))
	if err != nil {
		return nil, err
	}
	defer release()
	id, o, v, err := c.volume(ctx, r.GetSourceVolumeId())
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if id.Layout != schema.Block {
		return nil, invalid("volume %s has layout %s; snapshots are of volumes with layout Block", id.Name, id.Layout)
	}
	s, err := o.blocks().Snapshot(name)
	if errors.Is(err, backend.ErrNoSnapshot) {
		if err := c.snapshot(ctx, o, v, r.GetName(), name, pause); err != nil {
			return nil, err
		}
		s, err = o.blocks().Snapshot(name)
	}
	if err != nil {
		return nil, err
	}
	if s.Volume != id.Name || s.Request != r.GetName() {
		return nil, fmt.Errorf("%w: snapshot %s is of volume %s", backend.ErrExists, s.Request, s.Volume)
	}
	return &csi.CreateSnapshotResponse{Snapshot: answerSnapshot(id.Pool, s)}, nil
}

// readPause reads the parameters of a VolumeSnapshotClass.
func readPause(parameters map[string]string) (pause time.Duration, err error) {
	for name, value := range parameters {
		switch {
		case name == parameterPause:
			if pause, err = time.ParseDuration(value); err != nil || pause <= 0 {
				return 0, invalid("the parameter %s is %q; it looks like 30s or 5m", parameterPause, value)
			}
		case strings.HasPrefix(name, prefixSidecar):
		default:
			return 0, invalid("the parameter %q is not known; a VolumeSnapshotClass of Atoll has %s", name, parameterPause)
		}
	}
	return pause, nil
}

// snapshot makes a snapshot that is not there.
func (c *controller) snapshot(ctx context.Context, o *opened, v backend.Volume, request, name string, pause time.Duration) error {
	used, err := o.blocks().Used(v.Name)
	if err != nil {
		return err
	}
	k := making{
		key: backend.SnapshotKey(name), promise: backend.SnapshotKey(name), size: used, overcommit: v.Overcommit, pause: pause,
		open: func(b backend.Block) (*backend.Source, error) { return b.VolumeSource(v.Name) },
	}
	return c.make(ctx, o, k, func(made *backend.Copy, s *backend.Source, at time.Time) (promised int64, err error) {
		return s.Used, made.BecomeSnapshot(backend.Snapshot{
			Name: name, Request: request, Volume: v.Name, Size: s.Size, Used: s.Used, Created: at, FileSystem: s.FileSystem, Formatted: s.Formatted,
		})
	})
}

// making is a copy to be made, and what is promised for it.
type making struct {
	key        string // of what it becomes
	promise    string // in the ledger
	size       int64  // bytes
	overcommit float64
	pause      time.Duration
	open       func(backend.Block) (*backend.Source, error)
}

// make reserves room for a copy and makes it, also when the call ends before.
func (c *controller) make(ctx context.Context, o *opened, k making, finish func(*backend.Copy, *backend.Source, time.Time) (promised int64, err error)) error {
	return c.jobs.do(ctx, k.key, func(ctx context.Context, j *job) error {
		o, err := c.d.openPool(ctx, o.Pool, schema.Block) // the call's is closed with it
		if err != nil {
			return err
		}
		defer o.Close()
		l, err := c.ledgers.of(ctx, o)
		if err != nil {
			return err
		}
		space, err := o.space()
		if err != nil {
			return err
		}
		undo, err := l.Reserve(k.promise, k.size, space, k.overcommit)
		if err != nil {
			return err
		}
		order := copies.Request{
			Pool: o.Pool, Blocks: o.blocks(), Key: k.key, Pause: k.pause, OnProgress: j.said,
			Open: func() (*backend.Source, error) { return k.open(o.blocks()) },
		}
		err = c.d.Copies.Copy(ctx, order, func(made *backend.Copy, s *backend.Source, at time.Time) error {
			promised, err := finish(made, s, at)
			if err == nil {
				l.Set(k.promise, promised)
			}
			return err
		})
		if err != nil {
			undo()
			c.d.Log.Info("a copy was not made", "pool", o.Pool.Pool, "copy", k.key, "error", err.Error())
		}
		return err
	})
}

// DeleteSnapshot makes a snapshot disappear at once. What is no ID of ours is gone already.
func (c *controller) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	if err := given("snapshot ID", r.GetSnapshotId()); err != nil {
		return nil, err
	}
	id, err := volumeid.ParseSnapshot(r.GetSnapshotId())
	if err != nil {
		c.d.Log.Info("asked to delete what is no snapshot", "id", r.GetSnapshotId())
		return &csi.DeleteSnapshotResponse{}, nil
	}
	key := backend.SnapshotKey(id.Name)
	d := deletion{pool: id.Pool, layout: schema.Block, lock: key, key: key, promise: key}
	if err := c.delete(ctx, d, func(o *opened) error { return o.blocks().DeleteSnapshot(id.Name) }); err != nil {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// ListSnapshots lists snapshots by ID: all, those of a volume, or one. What is not there is
// not listed.
func (c *controller) ListSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	entries, err := c.snapshots(ctx, r)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b *csi.ListSnapshotsResponse_Entry) int {
		return cmp.Compare(a.GetSnapshot().GetSnapshotId(), b.GetSnapshot().GetSnapshotId())
	})
	answer := &csi.ListSnapshotsResponse{}
	answer.Entries, answer.NextToken, err = page(entries, func(e *csi.ListSnapshotsResponse_Entry) string { return e.GetSnapshot().GetSnapshotId() }, r.GetStartingToken(), r.GetMaxEntries())
	return answer, err
}

// snapshots reads those that are asked for.
func (c *controller) snapshots(ctx context.Context, r *csi.ListSnapshotsRequest) ([]*csi.ListSnapshotsResponse_Entry, error) {
	of, one := r.GetSourceVolumeId(), r.GetSnapshotId()
	var pools []string
	var err error
	switch {
	case one != "":
		id, err := volumeid.ParseSnapshot(one)
		if err != nil {
			return nil, nil //nolint:nilerr // there is no such snapshot
		}
		return c.oneSnapshot(ctx, id, of)
	case of != "":
		id, err := volumeid.Parse(of)
		if err != nil || id.Layout != schema.Block {
			return nil, nil //nolint:nilerr // it has none
		}
		pools = []string{id.Pool}
	default:
		if pools, err = c.d.Catalog.Names(); err != nil {
			return nil, err
		}
	}
	var entries []*csi.ListSnapshotsResponse_Entry
	for _, name := range pools {
		p, err := c.d.Catalog.Pool(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(p.Layouts, schema.Block) {
			continue
		}
		all, err := snapshotsOf(ctx, c.d, p)
		if err != nil {
			return nil, fmt.Errorf("listing the snapshots of pool %s: %w", name, err)
		}
		entries = append(entries, entriesOf(name, of, all...)...)
	}
	return entries, nil
}

func (c *controller) oneSnapshot(ctx context.Context, id volumeid.Snapshot, of string) ([]*csi.ListSnapshotsResponse_Entry, error) {
	o, err := c.d.open(ctx, id.Pool, schema.Block)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	s, err := o.blocks().Snapshot(id.Name)
	if errors.Is(err, backend.ErrNoSnapshot) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return entriesOf(id.Pool, of, s), nil
}

// entriesOf are the snapshots of a volume, by its ID, or all when that is "".
func entriesOf(pool, of string, all ...backend.Snapshot) (entries []*csi.ListSnapshotsResponse_Entry) {
	for _, s := range all {
		if answer := answerSnapshot(pool, s); of == "" || answer.GetSourceVolumeId() == of {
			entries = append(entries, &csi.ListSnapshotsResponse_Entry{Snapshot: answer})
		}
	}
	return entries
}

func answerSnapshot(pool string, s backend.Snapshot) *csi.Snapshot {
	return &csi.Snapshot{
		SnapshotId: volumeid.Snapshot{Pool: pool, Name: s.Name}.String(), SourceVolumeId: volumeid.ID{Pool: pool, Layout: schema.Block, Name: s.Volume}.String(),
		SizeBytes: s.Size, CreationTime: timestamppb.New(s.Created), ReadyToUse: true,
	}
}
