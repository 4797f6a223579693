package copies

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/atoll-storage/atoll/csi/agents"
	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/agent"
)

const (
	// setTries is how many names are tried for each set of a pool to place the copy on the set
	// of its source.
	setTries = 8
	// healLimit is how long to wait until bricks have no pending heals for each other, and
	// healEvery how often they are asked: replicate and disperse clear the counters up to a
	// second after the last write.
	healLimit = 3 * time.Second
	healEvery = 100 * time.Millisecond
)

// share makes the bricks share the content; nil when they cannot, or when an interrupted copy
// is to be continued.
func (c Copier) share(ctx context.Context, r Request, s *backend.Source) (*backend.Copy, error) {
	if c.Agents == nil || r.Pool.SetSize < 1 {
		return nil, nil
	}
	tries := 1
	if sets := len(r.Pool.Bricks) / r.Pool.SetSize; sets > 1 {
		tries = setTries * sets
	}
	for try := range tries {
		target, err := r.Blocks.BeginCopy(r.Key, try, s)
		if err != nil {
			return nil, err
		}
		if target.Done > 0 {
			return complete(target, s.Size)
		}
		begin := time.Now()
		outcome, err := c.askBricks(ctx, r.Pool, s.Place, target.Place)
		if err == nil && outcome == agent.ShareDone {
			if err = target.MarkShared(); err == nil {
				c.Log.Info("bricks share a copy's content", "pool", r.Pool.Pool, "from", s.Key, "to", r.Key,
					"took", time.Since(begin).String())
				return target, nil
			}
		}
		// Only some bricks may have the content.
		if err := errors.Join(target.Discard(), target.Close()); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil || outcome != agent.ShareApart {
			c.Log.Info("bricks do not share a copy's content", "pool", r.Pool.Pool, "from", s.Key,
				"outcome", outcome, "error", text(err))
			return nil, nil
		}
	}
	return nil, nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// complete returns an interrupted copy if it is complete. Otherwise it closes the copy, so that
// fill continues it.
func complete(c *backend.Copy, size int64) (*backend.Copy, error) {
	if c.Done == size {
		return c, nil
	}
	return nil, c.Close()
}

// askBricks asks the agents of all bricks to share the content. It repeats that while bricks
// have pending heals for each other.
func (c Copier) askBricks(ctx context.Context, p catalog.Pool, from, to string) (agent.Shared, error) {
	end := time.Now().Add(healLimit)
	for {
		answers := make([]agent.Shared, len(p.Bricks))
		errs, err := c.Agents.Each(ctx, p, func(ctx context.Context, b agents.Brick) error {
			a, err := c.Agents.Client.Share(ctx, b.At, b.Audience, agent.ShareRequest{From: from, To: to}, b.Keys)
			answers[b.Index] = a.Shared
			return err
		})
		if errors.Is(err, agents.ErrNone) {
			return agent.ShareUnable, nil
		}
		if err != nil {
			return "", err
		}
		outcome, err := combine(answers, errs, p.SetSize)
		if err != nil || outcome != agent.ShareUnlike || time.Now().After(end) {
			return outcome, err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(healEvery):
		}
	}
}

// worst lists the outcomes on bricks, the one that outweighs all others first.
var worst = []agent.Shared{agent.ShareUnable, agent.ShareApart, agent.ShareAbsent, agent.ShareUnlike, agent.ShareDone}

// combine combines the outcomes on bricks: the content is shared when all bricks of the set that
// has the source report so. Bricks of other sets need not respond.
func combine(outcomes []agent.Shared, errs []error, setSize int) (agent.Shared, error) {
	for first := 0; first+setSize <= len(outcomes); first += setSize {
		set, failed := outcomes[first:first+setSize], errors.Join(errs[first:first+setSize]...)
		if !slices.ContainsFunc(set, func(a agent.Shared) bool { return a != "" && a != agent.ShareAbsent }) {
			continue // the source is on another set
		}
		if failed != nil {
			return "", failed
		}
		for _, outcome := range worst {
			if slices.Contains(set, outcome) {
				return outcome, nil
			}
		}
	}
	return agent.ShareAbsent, errors.Join(errs...)
}
