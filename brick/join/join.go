// Package join decides whether a brick may serve clients.
//
// A brick that was created empty is a founder of its set or has to be healed from it. If it
// served before that is certain, clients would trust its empty root as much as the others' and
// list nothing.
//
// A brick that has served before must still be the brick that its set knows: after a replacement
// was reverted, or a disk was restored from a copy, clients would trust its old data as much as
// the others' present data.
package join

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/brick/identity"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Intervals, and the limit of one poll.
const (
	pollEvery = time.Second
	logEvery  = 10 * time.Second
	peerLimit = 3 * time.Second
)

// Brick is the brick that joins.
type Brick struct {
	Pool, Position string
	Directory      string
	Volfile        string // of the self-heal daemon: it names the brick's set
	AgentPort      int
	Log            logr.Logger

	logged                 time.Time     // when it was last logged what the brick waits for
	confirmAll, confirmOne time.Duration // instead of the constants, if not 0
}

// ErrStale says that the brick must not serve: its set has newer data.
var ErrStale = errors.New("the brick must not serve its data")

// Run returns when the brick may serve. It can be repeated, and interrupted anywhere. ErrStale if
// the brick must not serve.
func (b *Brick) Run(ctx context.Context) error {
	root, err := os.OpenRoot(b.Directory)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	own, err := root.Open(ondisk.GlusterDir)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer own.Close()
	stored := identity.Brick{File: own}
	id, err := stored.Joining()
	if err != nil {
		return err
	}
	before, now, err := stored.Start()
	if err != nil {
		return err
	}
	if id == "" {
		return b.confirm(ctx, stored, before, now)
	}
	return b.join(ctx, stored, id, now)
}

// join makes a new brick a member of its set.
func (b *Brick) join(ctx context.Context, own identity.Brick, id string, now ondisk.Incarnation) error {
	d, err := b.decide(ctx, own, id, now)
	if err != nil {
		return err
	}
	if err := own.SetMembers(d.members); err != nil {
		return err
	}
	marks, remove := safepath.FromFile(own.File), []string{ondisk.JoiningAttribute}
	if d.founder {
		if err := marks.SetAttribute(ondisk.FoundersAttribute, []byte(strings.Join(d.founders, " "))); err != nil {
			return err
		}
		remove = []string{ondisk.FreshAttribute, ondisk.JoiningAttribute} // it lacks nothing
	}
	b.Log.Info("the brick has joined its set", "founder", d.founder)
	for _, name := range remove {
		if err := marks.RemoveAttribute(name); err != nil {
			return err
		}
	}
	return own.Sync()
}

// decision is what a new brick is to its set.
type decision struct {
	founders []string // joining marks of the other founders
	founder  bool     // it lacks nothing: all others began with it
	members  ondisk.Members
}

// decide returns once the brick's part in its set is certain. The brick is a founder if all
// others are joining too, or if one that has joined counts it among the founders: nothing
// can have been written without that one, which has pending counters for what this brick
// lacks, as for any brick that was offline. The brick has to be healed if all others answer, and
// those that have joined have marked everything as pending for it, know its incarnation, and no
// longer find the brick that it replaces.
// Otherwise decide waits: a brick that does not answer may be stale, and together with this one,
// which is empty, clients would believe it.
func (b *Brick) decide(
	ctx context.Context, own identity.Brick, id string, now ondisk.Incarnation,
) (decision, error) {
	for {
		set, err := b.set()
		if err != nil {
			return decision{}, err
		}
		states := b.queryPeers(ctx, set.peers)
		if epoch := states.epochOf(b.Position, now); epoch != now.Epoch {
			now.Epoch = epoch
			if err := own.SetIncarnation(now); err != nil {
				return decision{}, err
			}
		}
		s := states.sum(b.Position, id, now)
		d := decision{founders: s.joining, members: states.members()}
		switch {
		case s.founders > 0 || len(s.joining) == len(set.peers):
			d.founder = true
			return d, nil
		case len(s.former) > 0: // clients may use it instead of this one
		case set.disperse && s.unmarked > 0 && s.unaware == 0 && 2*len(s.silent) < len(set.peers):
			return d, nil // its xattrs have versions, which tell what a brick lacks
		case s.marking > 0 && s.unmarked == 0 && s.unaware == 0 && len(s.silent) == 0:
			return d, nil
		}
		if err := b.wait(ctx, "this brick is new and waits for the others of its set, which may have data; "+
			"one that is lost for good has to be replaced too, and one that this brick replaces must have ended",
			"withData", s.unmarked+s.marking, "silent", s.silent, "replacedMayServeAt", s.former); err != nil {
			return decision{}, err
		}
	}
}

// wait waits for the next poll. It logs what for, but not each time.
func (b *Brick) wait(ctx context.Context, reason string, values ...any) error {
	if time.Since(b.logged) > logEvery {
		b.logged = time.Now()
		b.Log.Info(reason, values...)
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for the other bricks of the set: %w", ctx.Err())
	case <-time.After(pollEvery):
		return nil
	}
}
