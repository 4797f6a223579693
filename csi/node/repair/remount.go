package repair

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	hanging map[string]hangingMount // by mount point
}

// clientMount is the mount of a volume, which has or had a client.
type clientMount struct {
	*mountinfo.Info
	volume
}

// repairAll repairs the dead mounts below the kubelet's root, and reports those whose client hangs. Pools
// do not wait for each other.
func (r *remounter) repairAll(ctx context.Context) {
	if r.Clients == nil {
		return
	}
	dead, hang, err := r.examine(ctx)
	if isNew := r.reports.isNew("", err); err != nil {
		if isNew {
			r.Log.Info("cannot look for dead mounts; trying again", "error", err.Error())
		}
		return
	}
	r.reportHanging(ctx, hang)
	byPool := map[string][]clientMount{}
	for _, m := range dead {
		byPool[m.id.Pool] = append(byPool[m.id.Pool], m)
	}
	var pools sync.WaitGroup
	for _, mounts := range byPool {
		pools.Go(func() { r.repairPool(ctx, mounts) })
	}
	pools.Wait()
}

// examine finds the mounts below the kubelet's root that have no client any more, and those whose client
// hangs. A client that runs and does not reach its bricks answers the same as a dead one, and connects
// again by itself.
func (r *remounter) examine(ctx context.Context) (dead, hang []clientMount, err error) {
	// Before the clients are listed: the client of a mount that is found has started.
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(r.KubeletRoot))
	if err != nil {
		return nil, nil, fmt.Errorf("list mounts: %w", err)
	}
	top := map[string]*mountinfo.Info{} // later mounts cover earlier ones
	for _, m := range all {
		top[m.Mountpoint] = m
	}
	maps.DeleteFunc(top, func(_ string, m *mountinfo.Info) bool { return m.FSType != glusterfs })
	if len(top) == 0 {
		return nil, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	devices, err := r.Clients.Devices(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("list the node's clients: %w", err)
	}
	for _, m := range top {
		answers, runs := devices[fmt.Sprintf("%d:%d", m.Major, m.Minor)]
		if runs && answers {
			continue
		}
		v, err := readVolume(r.KubeletRoot, m.Mountpoint)
		switch {
		case err != nil:
			r.Log.V(1).Info("mount without an answering client is not a volume of this driver", "target", m.Mountpoint,
				"reason", err.Error())
		case runs:
			hang = append(hang, clientMount{m, v})
		default:
			dead = append(dead, clientMount{m, v})
		}
	}
	return dead, hang, nil
}

// repairPool mounts dead volumes of one pool again. An unreachable pool, which takes a while to
// find out, is tried once.
func (r *remounter) repairPool(ctx context.Context, dead []clientMount) {
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
func (r *remounter) remount(ctx context.Context, m clientMount) error {
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
func (r *remounter) report(ctx context.Context, m clientMount, err error) {
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
