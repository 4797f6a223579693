package apply

import (
	"context"
	"fmt"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// waitEvery is how often objects are looked at that are waited for.
const waitEvery = 2 * time.Second

// Progress is how far a pool is that is waited for.
type Progress struct {
	Ready, All int
	// Waits says of one object that is not ready why, as kstatus has it.
	Waits string
}

// Wait returns when all objects of a pool are as they should be, such as bricks that are
// ready, or when the context ends. It tells how far it is, every time it has looked.
func (a *Applier) Wait(ctx context.Context, p Pool, tell func(Progress)) error {
	objects, err := convertAll(p.Objects)
	if err != nil {
		return err
	}
	for {
		now := Progress{All: len(objects)}
		for _, o := range objects {
			is := referenceTo(o).object()
			if err := a.client.Get(ctx, client.ObjectKeyFromObject(is), is); err != nil {
				return fmt.Errorf("looking at %s of pool %s: %w", referenceTo(o), p.Name, err)
			}
			found, err := status.Compute(is)
			switch {
			case err != nil:
				return fmt.Errorf("looking at %s of pool %s: %w", referenceTo(o), p.Name, err)
			case found.Status == status.CurrentStatus:
				now.Ready++
			default:
				now.Waits = fmt.Sprintf("%s: %s", referenceTo(o), found.Message)
			}
		}
		if tell(now); now.Ready == now.All {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for pool %s, %d of %d objects are ready: %s: %w", p.Name, now.Ready, now.All, now.Waits, ctx.Err())
		case <-time.After(waitEvery):
		}
	}
}
