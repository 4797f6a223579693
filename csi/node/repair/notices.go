package repair

import (
	"context"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// maxNotices is how many notices wait at most: a node has far fewer pods.
const maxNotices = 4096

// noticeLimit is how long writing a notice may take.
const noticeLimit = 5 * time.Second

// notice writes an event. An error means that it has to be written later.
type notice func(context.Context) error

// notices are events that could not be written, because the cluster did not answer. A pod that must be
// restarted would not be otherwise.
type notices struct {
	mu      sync.Mutex
	waiting []notice
}

// write writes a notice, or keeps it for flush.
func (n *notices) write(ctx context.Context, log logr.Logger, one notice) {
	ctx, cancel := context.WithTimeout(ctx, noticeLimit)
	defer cancel()
	err := one(ctx)
	if err == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.waiting) == maxNotices {
		log.Error(err, "an event of a pod is not written, too many wait already")
		return
	}
	if len(n.waiting) == 0 {
		log.Info("events of pods wait until the cluster answers", "error", err.Error())
	}
	n.waiting = append(n.waiting, one)
}

// flush writes the notices that wait, up to the first that still has to.
func (n *notices) flush(ctx context.Context) {
	n.mu.Lock()
	waiting := n.waiting
	n.mu.Unlock()
	written := 0
	for _, one := range waiting {
		ctx, cancel := context.WithTimeout(ctx, noticeLimit)
		err := one(ctx)
		cancel()
		if err != nil {
			break
		}
		written++
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waiting = n.waiting[written:]
}
