// Package rollout decides which brick of a pool may be restarted next: one at a time, and none
// while another one lacks something.
package rollout

import (
	"fmt"
	"time"

	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/schema"
)

// Settle is how long a brick has been back before the next one of its set is restarted, where
// nodes have block volumes: they look every second at where they have their locks.
const Settle = 15 * time.Second

// SettleTied is that where a pool has a tiebreaker, and for how long nothing has been to be
// healed there. The thin arbiter holds against a brick that it was away until the self-heal
// daemon has gone through an index and found nothing, which it does every heal-timeout (10
// seconds in package volfile), and anew where it fails. When the other brick goes before that,
// the set stops (EIO), for folders as well.
const SettleTied = 30 * time.Second

// SettledBefore is the moment for Next, of a pool and of now.
func SettledBefore(spec *schema.Spec, now time.Time) time.Time {
	switch {
	case spec.Tiebreaker != nil:
		return now.Add(-SettleTied)
	case spec.Serves(schema.Block):
		return now.Add(-Settle)
	}
	return now
}

// Decision is what is to be done. Neither a brick nor a reason to wait: nothing.
type Decision struct {
	// Brick is to be restarted, if it is not nil.
	Brick *health.Brick
	// Waits says why none is, though some run what was rendered before.
	Waits string
	// Left counts those.
	Left int
}

// Next looks at the bricks of a pool. A brick that does not serve anyway is restarted first;
// another one only when all serve and nothing is to be healed. With force, healing is not
// waited for; that the other bricks of its set serve still is. And so is that those that are
// back have been so since before settled: nodes need a moment to lock their block volumes there,
// and lose them when they are locked on too few bricks. In a
// pool with a tiebreaker, nothing has been to be healed in their set since then, either.
func Next(bricks []health.Brick, force bool, settled time.Time) Decision {
	var d Decision
	for i := range bricks {
		if bricks[i].Outdated {
			d.Left++
		}
	}
	if d.Left == 0 {
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
		if d.Waits = obstacle(bricks, b, force, settled); d.Waits == "" {
			d.Brick = b
			return d
		}
	}
	return d
}

// obstacle tells what speaks against restarting a brick now.
func obstacle(bricks []health.Brick, one *health.Brick, force bool, settled time.Time) string {
	for i := range bricks {
		b := &bricks[i]
		switch {
		case !b.Online && (!force || b.Set == one.Set):
			return fmt.Sprintf("brick %d (%s) is not online", b.Index, b.Place)
		case b.ReadySince.After(settled) && b.Set == one.Set:
			return fmt.Sprintf("brick %d (%s) is back just now, and nodes lock their block volumes there", b.Index, b.Place)
		case force:
		case !b.AgentReachable:
			return fmt.Sprintf("the agent of brick %d (%s) does not answer", b.Index, b.Place)
		case b.Fresh || b.Backlog > 0:
			return fmt.Sprintf("%d entries are to be healed from brick %d (%s)", b.Backlog, b.Index, b.Place)
		case b.HealedSince.After(settled) && b.Set == one.Set:
			return fmt.Sprintf("all has been healed from brick %d (%s) for a moment only, and the tiebreaker may not know yet", b.Index, b.Place)
		}
	}
	return ""
}
