package repair

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

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

	mu      sync.Mutex
	probing map[string]bool // targets that have not answered yet
}

// deadMount is the mount of a volume whose client has died.
type deadMount struct {
	*mountinfo.Info
	volume
}

// repairAll repairs the dead mounts below the kubelet's root. Pools do not wait for each other.
func (r *remounter) repairAll(ctx context.Context) {
	found, err := r.findDead(ctx)
	if err != nil {
		r.Log.Error(err, "checking the node's mounts failed")
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

// findDead probes all mounts of clients below the kubelet's root at once.
func (r *remounter) findDead(ctx context.Context) ([]*mountinfo.Info, error) {
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(r.KubeletRoot))
	if err != nil {
		return nil, err
	}
	top := map[string]*mountinfo.Info{}
	for _, m := range all {
		top[m.Mountpoint] = m
	}
	var probes sync.WaitGroup
	var mu sync.Mutex
	var dead []*mountinfo.Info
	for _, m := range top {
		if m.FSType != glusterfs {
			continue
		}
		probes.Go(func() {
			if r.isDead(ctx, m.Mountpoint) {
				mu.Lock()
				defer mu.Unlock()
				dead = append(dead, m)
			}
		})
	}
	probes.Wait()
	return dead, nil
}

// isDead reports whether a mount's client has died. A mount that does not answer may be slow:
// it is not dead, and is not probed again before it has answered.
func (r *remounter) isDead(ctx context.Context, target string) bool {
	r.mu.Lock()
	if r.probing == nil {
		r.probing = map[string]bool{}
	}
	waiting := r.probing[target]
	r.probing[target] = true
	r.mu.Unlock()
	if waiting {
		return false
	}
	result := make(chan error, 1)
	go func() {
		var st unix.Stat_t
		result <- unix.Lstat(target, &st)
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.probing, target)
	}()
	select {
	case err := <-result:
		return mountpoint.IsDead(err)
	case <-time.After(probeLimit):
	case <-ctx.Done():
	}
	return false
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
		r.Events.ClientDied(ctx, m.pod, m.persistentVolume, err)
	}
}
