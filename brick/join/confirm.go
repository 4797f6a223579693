package join

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/atoll-storage/atoll/brick/identity"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// How long a brick that has served before waits for the others of its set.
const (
	// confirmAll is how long it waits for all of them. After that, one that knows it is enough.
	confirmAll = 10 * time.Second
	// confirmOne is how long one of two waits for the other. It must be able to serve alone, which
	// no brick of a larger set can.
	confirmOne = 30 * time.Second
)

// confirm returns when the other bricks of the set agree that this one is the newest of its
// position. Before is its incarnation before this start, which is the newest that they can know when it asks
// for the first time. Later they may have learned of this start from its agent.
//
// All bricks of a set learn of a replacement before it serves. So any brick of the set that was
// not replaced itself knows whether this one was.
func (b *Brick) confirm(ctx context.Context, own identity.Brick, before, now ondisk.Incarnation) error {
	if now.Epoch == 0 { // of a version without incarnations
		before.Epoch, now.Epoch = 1, 1
		if before.ID == "" {
			before.ID = now.ID
		}
		if err := own.SetIncarnation(now); err != nil {
			return err
		}
	}
	reason, err := own.Replaced()
	if err != nil {
		return err
	}
	if reason != "" {
		return b.stale(errors.New(reason))
	}
	members, err := own.Members()
	if err != nil {
		return err
	}
	for began := time.Now(); ; {
		set, err := b.set()
		if err != nil {
			return err
		}
		states := b.queryPeers(ctx, set.peers)
		if err := states.check(b.Position, before, now); err != nil {
			return b.stale(err)
		}
		waited := time.Since(began)
		stale, silent := states.stale(members), states.silent()
		switch {
		case len(stale) > 0: // it must end before this one serves beside it
		case len(silent) == 0, states.confirmed(b.Position, now) && waited > cmp.Or(b.confirmAll, confirmAll):
			return nil
		case len(set.peers) == 1 && waited > cmp.Or(b.confirmOne, confirmOne):
			b.Log.Info("the other brick of the set does not answer; serving without its confirmation", "silent", silent)
			return nil
		}
		if err := b.wait(ctx, "waiting for the other bricks of the set to confirm that this one was not replaced",
			"silent", silent, "replacedButOnline", stale); err != nil {
			return err
		}
	}
}

// stale says what to do about a brick that was replaced or copied.
func (b *Brick) stale(err error) error {
	return fmt.Errorf("%w: %w; %s has old data; name another path or device in the pool's document, "+
		"or raise the brick's generation and empty this one: a new brick is then created and healed",
		ErrStale, err, b.Directory)
}
