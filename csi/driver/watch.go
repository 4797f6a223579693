package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/internal/linux/bind"
	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Events tells people what became of a pod's volume.
type Events interface {
	// ClientDied says that the client of a pod's volume has died. With a nil error
	// the volume is mounted again where the pod's containers can see it if they
	// asked for it (mountPropagation); otherwise it is not, and why.
	ClientDied(ctx context.Context, podUID, persistentVolume string, err error)
	// VolumeLost says that a pod's block volume was lost to its node, and why.
	VolumeLost(ctx context.Context, podUID, persistentVolume string, why error)
}

const (
	// watchEvery is how often the node's mounts are looked at.
	watchEvery = 5 * time.Second
	// glusterfs is the type of the clients' file systems in mountinfo.
	glusterfs = "fuse.glusterfs"
	// volumeData is the file that the kubelet keeps beside every staging and target
	// path (kubernetes/pkg/volume/csi/csi_plugin.go).
	volumeData      = "vol_data.json"
	volumeDataLimit = 64 << 10 // bytes
)

// watcher mounts volumes anew whose client has died under them. What is mounted
// where it reads from the kernel, and what it is, from the kubelet's own files.
type watcher struct {
	n  *node
	mu sync.Mutex
	// asked are the targets that have not answered yet.
	asked map[string]bool
	// told is what was last said of a target, so that it is said once.
	told map[string]string
}

// watch looks until the context ends.
func (n *node) watch(ctx context.Context) {
	w := &watcher{n: n, asked: map[string]bool{}, told: map[string]string{}}
	for {
		w.look(ctx)
		w.lost(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchEvery):
		}
	}
}

// look repairs the dead mounts below the kubelet's root. Pools do not wait for each
// other.
func (w *watcher) look(ctx context.Context) {
	found, err := w.dead(ctx)
	if err != nil {
		w.n.d.Log.Error(err, "looking at the node's mounts")
		return
	}
	dead := map[string][]volumeMount{} // by pool
	for _, m := range found {
		v, err := w.n.known(m.Target)
		if err != nil {
			w.n.d.Log.V(1).Info("a dead mount is not of a volume of ours", "target", m.Target, "reason", err.Error())
			continue
		}
		dead[v.id.Pool] = append(dead[v.id.Pool], volumeMount{m, v})
	}
	var pools sync.WaitGroup
	for _, ofPool := range dead {
		pools.Go(func() { w.repairPool(ctx, ofPool) })
	}
	pools.Wait()
}

// dead asks every mount below the kubelet's root that is a client's, all at once.
func (w *watcher) dead(ctx context.Context) ([]mountinfo.Mount, error) {
	all, err := mountinfo.All()
	if err != nil {
		return nil, err
	}
	top := map[string]mountinfo.Mount{}
	for _, m := range all {
		if strings.HasPrefix(m.Target, w.n.d.KubeletRoot+"/") {
			top[m.Target] = m
		}
	}
	var asking sync.WaitGroup
	var mu sync.Mutex
	var dead []mountinfo.Mount
	for _, m := range top {
		if m.Type != glusterfs {
			continue
		}
		asking.Go(func() {
			if w.isDead(ctx, m.Target) {
				mu.Lock()
				defer mu.Unlock()
				dead = append(dead, m)
			}
		})
	}
	asking.Wait()
	return dead, nil
}

// volumeMount is a mount of a volume.
type volumeMount struct {
	mountinfo.Mount
	known
}

// isDead tells whether a mount's client has gone. One that does not answer may be
// slow: it is not dead, and is not asked again before it has answered.
func (w *watcher) isDead(ctx context.Context, target string) bool {
	w.mu.Lock()
	waiting := w.asked[target]
	w.asked[target] = true
	w.mu.Unlock()
	if waiting {
		return false
	}
	answer := make(chan error, 1)
	go func() {
		var st unix.Stat_t
		answer <- unix.Lstat(target, &st)
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.asked, target)
	}()
	select {
	case err := <-answer:
		return isDead(err)
	case <-time.After(statsLimit):
	case <-ctx.Done():
	}
	return false
}

// repairPool mounts dead volumes of one pool anew. When it cannot be reached, which
// takes a while to find out, it is asked once.
func (w *watcher) repairPool(ctx context.Context, dead []volumeMount) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var unreachable error
	for _, m := range dead {
		err := unreachable
		if err == nil {
			err = w.n.restore(ctx, m.id, m.Mount)
		}
		if errors.Is(err, mounts.ErrUnreachable) {
			unreachable = err
		}
		w.tell(ctx, m, err)
	}
}

// tell says what became of a volume whose client has died.
func (w *watcher) tell(ctx context.Context, m volumeMount, err error) {
	if errors.Is(err, errBusy) || !w.isNews(m.Target, err) {
		return
	}
	log := w.n.d.Log.WithValues("volume", m.id.String(), "target", m.Target)
	if err == nil {
		log.Info("mounted a volume anew, its client has died")
	} else {
		log.Info("a volume's client has died", "error", err.Error())
	}
	if m.pod != "" && w.n.d.Events != nil {
		w.n.d.Events.ClientDied(ctx, m.pod, m.persistentVolume, err)
	}
}

// isNews tells whether this was not said of a target the last time.
func (w *watcher) isNews(target string, err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		delete(w.told, target)
		return true
	}
	before := w.told[target]
	w.told[target] = err.Error()
	return before != err.Error()
}

// restore mounts a volume over its dead mount, with the same flags. The volume is taken
// when its pool has answered, which may last: a pod that goes does not wait for that.
func (n *node) restore(ctx context.Context, id volumeid.ID, m mountinfo.Mount) error {
	o, err := n.d.open(ctx, id.Pool, id.Layout)
	if err != nil {
		return err
	}
	defer o.Close()
	folders, err := o.folders()
	if err != nil {
		return err
	}
	if want := "/" + folders.Folder(id.Name); m.Root != want {
		return fmt.Errorf("%w: %s is mounted there, the volume is %s", errConflict, m.Root, want)
	}
	folder, err := folders.Open(id.Name)
	if err != nil {
		return err
	}
	defer folder.Close()
	release, err := n.locks.take(id.String())
	if err != nil {
		return err
	}
	defer release()
	at, err := n.target(m.Target, false)
	if err != nil || at == nil {
		return err
	}
	defer at.Close()
	if _, err := at.shows(folder); !isDead(err) {
		return nil // it was repaired, or taken away
	}
	return at.cover(folder, bind.Of(m.Flags))
}

// known is what the kubelet has noted of a volume's path.
type known struct {
	id               volumeid.ID
	pod              string // UID; "" for a staging path
	persistentVolume string
}

// known reads the kubelet's file beside a staging or target path.
func (n *node) known(target string) (known, error) {
	at, err := n.target(target, false)
	if err != nil || at == nil {
		return known{}, fmt.Errorf("%s has gone: %w", target, err)
	}
	defer at.Close()
	text, err := at.parent.ReadFile(volumeData, volumeDataLimit)
	if err != nil {
		return known{}, err
	}
	var data struct{ DriverName, VolumeHandle, SpecVolID string }
	if err := json.Unmarshal(text, &data); err != nil {
		return known{}, fmt.Errorf("reading %s beside %s: %w", volumeData, target, err)
	}
	if data.DriverName != schema.DriverName {
		return known{}, fmt.Errorf("it is of the driver %q", data.DriverName)
	}
	v := known{persistentVolume: data.SpecVolID}
	if v.id, err = volumeid.Parse(data.VolumeHandle); err != nil {
		return known{}, err
	}
	// Targets are <root>/pods/<uid>/volumes/kubernetes.io~csi/<volume>/mount.
	below, _ := filepath.Rel(n.d.KubeletRoot, target)
	if part := strings.Split(below, "/"); len(part) == 6 && part[0] == "pods" {
		v.pod = part[1]
	}
	return v, nil
}
