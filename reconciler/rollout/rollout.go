// Package rollout decides which brick of a pool may be restarted next: one at a time, and only
// while all other bricks are healed.
package rollout

import (
	"fmt"
	"time"

	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/schema"
)

// SettleTime is how long a brick must have been ready before the next one of its set is restarted,
// in pools with block volumes: nodes check every second where they hold their locks.
const SettleTime = 15 * time.Second

// SettleTimeTiebreaker is the settle time in a pool with a tiebreaker, and also how long no heals
// may have been pending. The thin arbiter marks a brick that was offline as bad until the self-heal
// daemon has crawled an index without finding an entry, which it does every heal-timeout (10
// seconds in package volfile) and repeats after a failure. If the other brick goes down before
// that, the set fails with EIO, also for subdirectory volumes.
const SettleTimeTiebreaker = 30 * time.Second

// SettledBefore returns the time that Next expects, for a pool at the time now.
func SettledBefore(spec *schema.Spec, now time.Time) time.Time {
	switch {
	case spec.Tiebreaker != nil:
		return now.Add(-SettleTimeTiebreaker)
	case spec.Serves(schema.Block):
		return now.Add(-SettleTime)
	}
	return now
}

// Decision is the result of Next. Without a brick and a wait reason, there is nothing to do.
type Decision struct {
	// Brick is the brick to restart, or nil.
	Brick *health.Brick
	// WaitReason is why no brick is restarted although some are outdated.
	WaitReason string
	// Outdated counts the bricks that run an older revision.
	Outdated int
}

// Next chooses the next brick of a pool to restart. An offline brick is restarted first; an online
// one only when all bricks are online and no heals are pending. force skips waiting for healing,
// but still requires that the other bricks of the set are online.
//
// Bricks of the set that were restarted must have been ready since before settled: nodes need a
// moment to lock their block volumes there, and lose volumes that are locked on too few bricks. In
// a pool with a tiebreaker, no heals may have been pending in the set since then either.
func Next(bricks []health.Brick, force bool, settled time.Time) Decision {
	var d Decision
	for i := range bricks {
		if bricks[i].Outdated {
			d.Outdated++
		}
	}
	if d.Outdated == 0 {
		return d
	}
	for i := range bricks {
		if b := &bricks[i]; b.Outdated && !b.Online && b.Pod != "" {
			d.Brick = b
			return d
		}
	}
	for i := range bricks {
		b := &bricks[i]
		if !b.Outdated {
			continue
		}
		if d.WaitReason = waitReason(bricks, b, force, settled); d.WaitReason == "" {
			d.Brick = b
			return d
		}
	}
	return d
}

// waitReason returns why a brick cannot be restarted now, "" when it can.
func waitReason(bricks []health.Brick, candidate *health.Brick, force bool, settled time.Time) string {
	for i := range bricks {
		b := &bricks[i]
		sameSet := b.Set == candidate.Set
		switch {
		case !b.Online && (!force || sameSet):
			return fmt.Sprintf("brick %d (%s) is not online", b.Index, b.Place)
		case b.ReadySince.After(settled) && sameSet:
			return fmt.Sprintf("brick %d (%s) was restarted just now, and nodes still lock their block volumes there",
				b.Index, b.Place)
		case force:
		case !b.AgentReachable:
			return fmt.Sprintf("the agent of brick %d (%s) does not respond", b.Index, b.Place)
		case b.Fresh || b.Backlog > 0:
			return fmt.Sprintf("%d heals are pending on brick %d (%s)", b.Backlog, b.Index, b.Place)
		case b.HealedSince.After(settled) && sameSet:
			return fmt.Sprintf("brick %d (%s) was healed just now, and the tiebreaker may not have recorded it yet",
				b.Index, b.Place)
		}
	}
	return ""
}
