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
	// setTries is how many names are tried for each set of a pool, so that the copy is on
	// that of its source.
	setTries = 8
	// alikeLimit is how long it may take until bricks have noted that they are alike, and
	// alikeEvery how often they are asked: replicate and disperse note that up to a second
	// after the last write.
	alikeLimit = 3 * time.Second
	alikeEvery = 100 * time.Millisecond
)

// share has the bricks share the content; nil when they cannot, or when a copy that was cut
// off is to be gone on with.
func (c Copier) share(ctx context.Context, o Request, s *backend.Source) (*backend.Copy, error) {
	if c.Agents == nil || o.Pool.SetSize < 1 {
		return nil, nil
	}
	tries := 1
	if sets := len(o.Pool.Bricks) / o.Pool.SetSize; sets > 1 {
		tries = setTries * sets
	}
	for try := range tries {
		made, err := o.Blocks.BeginCopy(o.Key, try, s)
		if err != nil {
			return nil, err
		}
		if made.Done > 0 {
			return whole(made, s.Size)
		}
		begun := time.Now()
		outcome, err := c.ask(ctx, o.Pool, s.Place, made.Place)
		if err == nil && outcome == agent.ShareDone {
			if err = made.Shared(); err == nil {
				c.Log.Info("bricks share a copy's content", "pool", o.Pool.Pool, "from", s.Key, "to", o.Key, "took", time.Since(begun).String())
				return made, nil
			}
		}
		// Some bricks may have the content, and others not.
		if err := errors.Join(made.Discard(), made.Close()); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil || outcome != agent.ShareApart {
			c.Log.Info("bricks do not share a copy's content", "pool", o.Pool.Pool, "from", s.Key, "outcome", outcome, "error", text(err))
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

// whole gives a copy that was begun before if it is complete; else it is for who copies.
func whole(made *backend.Copy, size int64) (*backend.Copy, error) {
	if made.Done == size {
		return made, nil
	}
	return nil, made.Close()
}

// ask asks the agents of all bricks, and again while bricks have not noted yet that they are
// alike.
func (c Copier) ask(ctx context.Context, p catalog.Pool, from, to string) (agent.Shared, error) {
	end := time.Now().Add(alikeLimit)
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
		outcome, err := together(answers, errs, p.SetSize)
		if err != nil || outcome != agent.ShareUnlike || time.Now().After(end) {
			return outcome, err
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(alikeEvery):
		}
	}
}

// worst are the outcomes on bricks, from the one that outweighs all others.
var worst = []agent.Shared{agent.ShareUnable, agent.ShareApart, agent.ShareAbsent, agent.ShareUnlike, agent.ShareDone}

// together is what the answers of bricks come to: the content is shared when all bricks of
// the set that has the source say so. Bricks of other sets, which have nothing of it, need
// not answer.
func together(answers []agent.Shared, errs []error, setSize int) (agent.Shared, error) {
	for first := 0; first+setSize <= len(answers); first += setSize {
		set, failed := answers[first:first+setSize], errors.Join(errs[first:first+setSize]...)
		if !slices.ContainsFunc(set, func(a agent.Shared) bool { return a != "" && a != agent.ShareAbsent }) {
			continue // the source is elsewhere
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
