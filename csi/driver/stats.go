package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// statsLimit is how long a volume may take to answer.
const statsLimit = 5 * time.Second

// errSilent says that a mounted volume does not answer.
var errSilent = errors.New("the volume does not answer; look at the pool's bricks, and restart the pod if its client has gone")

// NodeGetVolumeStats tells what a volume uses.
func (n *node) NodeGetVolumeStats(ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	if err := given("volume ID", r.GetVolumeId(), "volume path", r.GetVolumePath()); err != nil {
		return nil, err
	}
	id, err := volumeid.Parse(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if size, is, err := n.deviceAt(id, r.GetVolumePath()); is || err != nil {
		return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: size}}}, err
	}
	st, err := n.ask(ctx, r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	size := st.Frsize
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: int64(st.Blocks) * size, Available: int64(st.Bavail) * size, Used: int64(st.Blocks-st.Bfree) * size},
		{Unit: csi.VolumeUsage_INODES, Total: int64(st.Files), Available: int64(st.Ffree), Used: int64(st.Files - st.Ffree)},
	}}, nil
}

// deviceAt gives the size of the device at a path, if that is one. What is used of it, only
// its user knows. A path where no device can be is not looked at: a folder that hangs is for
// ask, which has a limit.
func (n *node) deviceAt(id volumeid.ID, path string) (size int64, is bool, err error) {
	if id.Layout != schema.Block {
		return 0, false, nil
	}
	at, err := n.target(path, false)
	if err != nil || at == nil {
		return 0, false, nil //nolint:nilerr // whoever asks next says so
	}
	defer at.Close()
	mode, err := at.parent.Mode(at.name)
	if err != nil || mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, false, nil //nolint:nilerr // the same
	}
	f, err := at.parent.ReadAny(at.name)
	if err == nil {
		defer f.Close()
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err != nil {
		return 0, true, fmt.Errorf("%w: asking the device at %s for its size: %w", errSilent, path, err)
	}
	return size, true, nil
}

// NodeGetVolumeHealth tells whether a volume answers where it is mounted.
func (n *node) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if err := given("volume ID", r.GetVolumeId()); err != nil {
		return nil, err
	}
	id, err := volumeid.Parse(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	paths := []string{r.GetVolumePublishPath(), r.GetStagingTargetPath()}
	if id.Layout == schema.Single {
		paths = paths[:1] // nothing is mounted where it is staged
	}
	healthy := &csi.VolumeHealth{VolumeId: r.GetVolumeId()}
	for _, path := range paths {
		if path == "" {
			continue
		}
		_, err := n.ask(ctx, path)
		switch {
		case errors.Is(err, backend.ErrNotFound):
			return &csi.NodeGetVolumeHealthResponse{VolumeHealth: inaccessible(r.GetVolumeId(), "NotMounted", err.Error())}, nil
		case err != nil:
			return &csi.NodeGetVolumeHealthResponse{VolumeHealth: inaccessible(r.GetVolumeId(), "NoAnswer", err.Error())}, nil
		}
	}
	if n, err := mountinfo.Stacked(r.GetVolumePublishPath()); err != nil || n < 2 {
		return &csi.NodeGetVolumeHealthResponse{VolumeHealth: healthy}, err
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: unwell(r.GetVolumeId(), csi.VolumeHealthErrorType_DEGRADED, "ClientReplaced", replaced)}, nil
}

// replaced says what a pod has when its volume was mounted anew over a dead mount.
const replaced = "the volume's client died while the pod was running, and the volume is mounted anew; containers whose " +
	"volumeMount does not have mountPropagation: HostToContainer still have the dead mount: delete the pod to have them started again"

func inaccessible(id, reason, message string) *csi.VolumeHealth {
	return unwell(id, csi.VolumeHealthErrorType_INACCESSIBLE, reason, message)
}

func unwell(id string, status csi.VolumeHealthErrorType, reason, message string) *csi.VolumeHealth {
	return &csi.VolumeHealth{VolumeId: id, HealthStatuses: []*csi.VolumeHealth_VolumeHealthEntry{{Status: status, Reason: reason, Message: message}}}
}

// ask asks a mounted volume for its root and its space, within the limit. A call
// that hangs is left behind, and ends with the mount.
func (n *node) ask(ctx context.Context, path string) (unix.Statfs_t, error) {
	at, err := n.target(path, false)
	if err != nil { // also a path where no volume can be
		return unix.Statfs_t{}, fmt.Errorf("%w: %w", backend.ErrNotFound, err)
	}
	if _, found, err := mountinfo.At(path); at == nil || err != nil || !found {
		if at != nil {
			at.Close()
		}
		return unix.Statfs_t{}, errors.Join(err, fmt.Errorf("%w: nothing is mounted at %s", backend.ErrNotFound, path))
	}
	type answer struct {
		st  unix.Statfs_t
		err error
	}
	answers := make(chan answer, 1)
	go func() {
		defer at.Close()
		var a answer
		d, err := at.parent.Dir(at.name)
		if err == nil {
			var root unix.Stat_t
			err = errors.Join(unix.Fstat(int(d.File().Fd()), &root), unix.Fstatfs(int(d.File().Fd()), &a.st))
			d.Close()
		}
		a.err = err
		answers <- a
	}()
	ctx, cancel := context.WithTimeout(ctx, statsLimit)
	defer cancel()
	select {
	case a := <-answers:
		if a.err != nil {
			return a.st, fmt.Errorf("%w: %w", errSilent, a.err)
		}
		return a.st, nil
	case <-ctx.Done():
		return unix.Statfs_t{}, fmt.Errorf("%w: %w", errSilent, ctx.Err())
	}
}
