package repair

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/rpc"
)

// Events reports to users what happened to a pod's volume. An error means that it could not, because
// the cluster does not answer: it is to be tried again.
type Events interface {
	// ClientDied reports that the client of a pod's volume has died. With a nil why the
	// volume is mounted again since that time where the pod's containers see it if they have
	// mountPropagation. Otherwise it is not mounted.
	ClientDied(ctx context.Context, podUID, persistentVolume string, since time.Time, why error) error
	// ClientHangs reports that the client of a pod's volume does not answer, noticed at that time, or that
	// this has ended.
	ClientHangs(ctx context.Context, podUID, persistentVolume string, since time.Time, ended bool) error
	// VolumeLost reports that the node lost a pod's block volume, and why.
	VolumeLost(ctx context.Context, podUID, persistentVolume string, since time.Time, why error) error
}

// Clients are the GlusterFS clients of the node.
type Clients interface {
	// Devices returns the devices of all clients whose process runs, as mountinfo names them, and whether
	// they answer.
	Devices(ctx context.Context) (map[string]bool, error)
	// HasOlder reports whether some of them belong to a former mount server, which ends when nothing
	// is mounted from them any more.
	HasOlder(ctx context.Context) bool
}

// LossReporter lists the block volumes that this node has lost and that are still in use.
type LossReporter interface {
	Lost(ctx context.Context) (blockdev.Losses, error)
}

// Config is what Watch needs.
type Config struct {
	Pools       pool.Opener
	Locks       *rpc.Locks
	Log         logr.Logger
	KubeletRoot string
	Clients     Clients      // nil: no mounts are repaired
	Events      Events       // nil reports nothing
	Losses      LossReporter // nil: the node has no block volumes
}

// probeLimit is how long a mount may take to answer, and the list of lost volumes.
const probeLimit = 5 * time.Second

// reports are the last errors reported of targets, so that each is reported once.
type reports struct {
	mu   sync.Mutex
	last map[string]string
}

// isNew reports whether an error differs from the last one of a target. Success is always new.
func (r *reports) isNew(target string, err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.last, target)
		return true
	}
	if r.last == nil {
		r.last = map[string]string{}
	}
	before := r.last[target]
	r.last[target] = err.Error()
	return before != err.Error()
}
