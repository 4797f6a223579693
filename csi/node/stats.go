package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/linux/mounted"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// statsLimit is how long a volume may take to answer.
const statsLimit = 5 * time.Second

// NodeGetVolumeStats returns the space and inodes of a volume, or the size of a raw one: only
// its user knows what it uses of that.
func (s *Server) NodeGetVolumeStats(
	ctx context.Context, r *csi.NodeGetVolumeStatsRequest,
) (*csi.NodeGetVolumeStatsResponse, error) {
	if err := rpc.RequireFields("volume ID", r.GetVolumeId(), "volume path", r.GetVolumePath()); err != nil {
		return nil, err
	}
	id, err := volumeid.Parse(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	// Other layouts have no devices, and their directories may hang: statfs has a limit.
	if id.Layout == schema.Block {
		if size, ok, err := mountpoint.DeviceSize(s.config.KubeletRoot, r.GetVolumePath()); ok || err != nil {
			return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{
				Unit:  csi.VolumeUsage_BYTES,
				Total: size,
			}}}, err
		}
	}
	st, err := s.statfs(ctx, r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	size := st.Frsize
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{
			Unit: csi.VolumeUsage_BYTES, Total: int64(st.Blocks) * size, Available: int64(st.Bavail) * size,
			Used: int64(st.Blocks-st.Bfree) * size,
		},
		{
			Unit: csi.VolumeUsage_INODES, Total: int64(st.Files), Available: int64(st.Ffree),
			Used: int64(st.Files - st.Ffree),
		},
	}}, nil
}

// clientReplaced is the health message of a volume that was mounted again over a dead mount.
const clientReplaced = "the volume's client died while the pod was running, and the volume is mounted again; containers whose " +
	"volumeMount lacks mountPropagation: HostToContainer still see the dead mount: delete the pod to restart them"

// NodeGetVolumeHealth reports whether a volume answers where it is mounted.
func (s *Server) NodeGetVolumeHealth(
	ctx context.Context, r *csi.NodeGetVolumeHealthRequest,
) (*csi.NodeGetVolumeHealthResponse, error) {
	if err := rpc.RequireFields("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	id, err := volumeid.Parse(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if id.Layout == schema.Block {
		if _, raw, err := mountpoint.DeviceSize(s.config.KubeletRoot, r.GetVolumePublishPath()); raw && err == nil {
			return &csi.NodeGetVolumeHealthResponse{VolumeHealth: &csi.VolumeHealth{VolumeId: r.GetVolumeId()}}, nil
		}
	}
	paths := []string{r.GetVolumePublishPath(), r.GetStagingTargetPath()}
	if id.Layout == schema.Single {
		paths = paths[:1] // nothing is mounted at its staging path
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		_, err := s.statfs(ctx, path)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			return &csi.NodeGetVolumeHealthResponse{VolumeHealth: rpc.Inaccessible(r.GetVolumeId(), "NotMounted",
				err.Error())}, nil
		case err != nil:
			return &csi.NodeGetVolumeHealthResponse{VolumeHealth: rpc.Inaccessible(r.GetVolumeId(), "NoAnswer",
				err.Error())}, nil
		}
	}
	health := &csi.VolumeHealth{VolumeId: r.GetVolumeId()}
	n, err := mounted.Count(r.GetVolumePublishPath())
	if err == nil && n > 1 {
		health = rpc.Unhealthy(r.GetVolumeId(), csi.VolumeHealthErrorType_DEGRADED, "ClientReplaced", clientReplaced)
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: health}, err
}

// statfs reads the space of a mounted volume, and checks that its root answers, within the
// limit. A call that hangs is waited for by all later calls for the path, and ends with the mount.
func (s *Server) statfs(ctx context.Context, path string) (unix.Statfs_t, error) {
	results := s.asking.DoChan(path, func() (any, error) { return s.space(path) })
	ctx, cancel := context.WithTimeout(ctx, statsLimit)
	defer cancel()
	select {
	case r := <-results:
		st, _ := r.Val.(unix.Statfs_t)
		return st, r.Err
	case <-ctx.Done():
		return unix.Statfs_t{}, fmt.Errorf("%w: %w", rpc.ErrNoAnswer, ctx.Err())
	}
}

// space is statfs without a limit.
func (s *Server) space(path string) (st unix.Statfs_t, err error) {
	at, err := mountpoint.Find(s.config.KubeletRoot, path)
	if err != nil { // also if no volume can be at the path
		return st, fmt.Errorf("%w: %w", backend.ErrNotFound, err)
	}
	if at == nil {
		return st, fmt.Errorf("%w: nothing is mounted at %s", backend.ErrNotFound, path)
	}
	defer at.Close()
	if found, err := isMounted(path); err != nil || !found {
		return st, errors.Join(err, fmt.Errorf("%w: nothing is mounted at %s", backend.ErrNotFound, path))
	}
	d, err := at.Parent.Dir(at.Name)
	if err == nil {
		defer d.Close()
		var root unix.Stat_t
		err = errors.Join(unix.Fstat(int(d.File().Fd()), &root), unix.Fstatfs(int(d.File().Fd()), &st))
	}
	if err != nil {
		return st, fmt.Errorf("%w: %w", rpc.ErrNoAnswer, err)
	}
	return st, nil
}
