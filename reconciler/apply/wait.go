package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pollInterval is how often Wait reads the objects.
const pollInterval = 2 * time.Second

// Progress is the state of a pool that Wait waits for.
type Progress struct {
	Ready, All int
	// NotReady names one object that is not ready, and why, in the words of kstatus.
	NotReady string
}

// Wait returns when all objects of a pool are ready in the sense of kstatus, or when the
// context ends. It calls report after every poll.
func (a *Applier) Wait(ctx context.Context, p Pool, report func(Progress)) error {
	objects, err := convertAll(p.Objects)
	if err != nil {
		return err
	}
	for {
		now := Progress{All: len(objects)}
		for _, o := range objects {
			existing := referenceTo(o).object()
			if err := a.client.Get(ctx, client.ObjectKeyFromObject(existing), existing); err != nil {
				return fmt.Errorf("get %s of pool %s: %w", referenceTo(o), p.Name, err)
			}
			found, err := status.Compute(existing)
			switch {
			case err != nil:
				return fmt.Errorf("compute status of %s of pool %s: %w", referenceTo(o), p.Name, err)
			case found.Status == status.CurrentStatus:
				now.Ready++
			default:
				now.NotReady = fmt.Sprintf("%s: %s", referenceTo(o), found.Message)
			}
		}
		if report(now); now.Ready == now.All {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for pool %s: %d of %d objects are ready; %s: %w", p.Name, now.Ready, now.All,
				now.NotReady, ctx.Err())
		case <-time.After(pollInterval):
		}
	}
}
