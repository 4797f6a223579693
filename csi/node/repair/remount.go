package repair

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/node/mountpoint"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/linux/bind"
)

// glusterfs is the type of the clients' file systems in mountinfo.
const glusterfs = "fuse.glusterfs"

// remounter mounts volumes again whose client has died.
type remounter struct {
	Config
	reports reports
	notices notices
}

// deadMount is the mount of a volume whose client has died.
type deadMount struct {
	*mountinfo.Info
	volume
}

// repairAll repairs the dead mounts below the kubelet's root. Pools do not wait for each other.
func (r *remounter) repairAll(ctx context.Context) {
	if r.Clients == nil {
		return
	}
	found, err := r.findDead(ctx)
	if isNew := r.reports.isNew("", err); err != nil {
		if isNew {
			r.Log.Info("cannot look for dead mounts; trying again", "error", err.Error())
		}
		return
	}
	dead := map[string][]deadMount{} // by pool
	for _, m := range found {
		v, err := readVolume(r.KubeletRoot, m.Mountpoint)
		if err != nil {
			r.Log.V(1).Info("dead mount is not a volume of this driver", "target", m.Mountpoint, "reason", err.Error())
			continue
		}
		dead[v.id.Pool] = append(dead[v.id.Pool], deadMount{m, v})
	}
	var pools sync.WaitGroup
	for _, mounts := range dead {
		pools.Go(func() { r.repairPool(ctx, mounts) })
	}
	pools.Wait()
}

// findDead finds the mounts below the kubelet's root that have no client any more. A client that
// runs and does not reach its bricks answers the same as a dead one, and connects again by itself.
func (r *remounter) findDead(ctx context.Context) ([]*mountinfo.Info, error) {
	// Before the clients are listed: the client of a mount that is found has started.
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(r.KubeletRoot))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	top := map[string]*mountinfo.Info{} // later mounts cover earlier ones
	for _, m := range all {
		top[m.Mountpoint] = m
	}
	maps.DeleteFunc(top, func(_ string, m *mountinfo.Info) bool { return m.FSType != glusterfs })
	if len(top) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	devices, err := r.Clients.Devices(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the node's clients: %w", err)
	}
	maps.DeleteFunc(top, func(_ string, m *mountinfo.Info) bool {
		return devices[fmt.Sprintf("%d:%d", m.Major, m.Minor)]
	})
	return slices.Collect(maps.Values(top)), nil
}

// repairPool mounts dead volumes of one pool again. An unreachable pool, which takes a while to
// find out, is tried once.
func (r *remounter) repairPool(ctx context.Context, dead []deadMount) {
	ctx, cancel := context.WithTimeout(ctx, rpc.CallLimit)
	defer cancel()
	var unreachable error
	for _, m := range dead {
		err := unreachable
		if err == nil {
			err = r.remount(ctx, m)
		}
		if errors.Is(err, mounts.ErrUnreachable) {
			unreachable = err
		}
		r.report(ctx, m, err)
	}
}

// remount mounts a volume over its dead mount, with the same flags. It locks the volume only
// after the pool has answered, which may take long: a pod that ends does not wait for that.
func (r *remounter) remount(ctx context.Context, m deadMount) error {
	h, err := r.Pools.Open(ctx, m.id.Pool, m.id.Layout)
	if err != nil {
		return err
	}
	defer h.Close()
	dirs, err := h.Directories()
	if err != nil {
		return err
	}
	if want := "/" + dirs.Place(m.id.Name); m.Root != want {
		return fmt.Errorf("%w: %s is mounted there, but the volume is %s", rpc.ErrConflict, m.Root, want)
	}
	dir, err := dirs.Open(m.id.Name)
	if err != nil {
		return err
	}
	defer dir.Close()
	unlock, err := r.Locks.LockNodeVolume(m.id.String())
	if err != nil {
		return err
	}
	defer unlock()
	at, err := mountpoint.Find(r.KubeletRoot, m.Mountpoint)
	if err != nil || at == nil {
		return err
	}
	defer at.Close()
	if _, err := at.Shows(dir); !mountpoint.IsDead(err) {
		return nil // it was repaired or unmounted
	}
	return at.Cover(dir, bind.FromMountInfo(m.Options))
}

// report logs what happened to a volume whose client has died, and writes an event of its pod.
func (r *remounter) report(ctx context.Context, m deadMount, err error) {
	if errors.Is(err, rpc.ErrBusy) || !r.reports.isNew(m.Mountpoint, err) {
		return
	}
	log := r.Log.WithValues("volume", m.id.String(), "target", m.Mountpoint)
	if err == nil {
		log.Info("client died; volume mounted again")
	} else {
		log.Info("client died; volume not mounted", "error", err.Error())
	}
	if m.pod != "" && r.Events != nil {
		since := time.Now()
		r.notices.write(ctx, r.Log, func(ctx context.Context) error {
			return r.Events.ClientDied(ctx, m.pod, m.persistentVolume, since, err)
		})
	}
}
