package quota

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/atoll-storage/atoll/csi/agents"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// Agents asks the agents of a pool's bricks.
type Agents struct{ *agents.Agents }

// dialLimit is how long it takes to find out that a brick is away.
const dialLimit = 2 * time.Second

// ModeEachSet is that of a distributed pool: the size holds for each of its sets, so a
// volume can have as many times its size as there are sets.
const ModeEachSet Mode = "enforced-per-set"

// Limit asks all agents at once. A brick that is away with its agent does not keep a
// volume from being made: its agent finds the record when it is back. Sizes of pools
// without agents, or without keys, and those of Arbiter pools, are advisory: with an
// arbiter a full brick gives errors at random (docs/limitations.md).
func (a *Agents) Limit(ctx context.Context, p catalog.Pool, folder string, size int64) (Mode, error) {
	if p.Type == schema.External || p.Type == schema.Arbiter {
		return ModeAdvisory, nil
	}
	enforced := make([]bool, len(p.Bricks))
	errs, err := a.Each(ctx, p, func(ctx context.Context, b agents.Brick) error {
		answer, err := a.Client.Limit(ctx, b.At, b.Audience, agent.LimitRequest{Folder: folder, Bytes: size}, b.Keys)
		if enforced[b.Index] = answer.Enforced; err != nil && away(ctx, p.Bricks[b.Index]) {
			enforced[b.Index], err = true, nil
		}
		return err
	})
	if errors.Is(err, agents.ErrNone) {
		return ModeAdvisory, nil
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return "", err
	}
	if slices.Contains(enforced, false) {
		return ModeAdvisory, nil
	}
	if len(p.Bricks) > p.SetSize {
		return ModeEachSet, nil
	}
	return ModeEnforced, nil
}

// away tells whether the brick itself cannot be reached either.
func away(ctx context.Context, b entry.Brick) bool {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(b.Host, strconv.Itoa(b.Port)))
	if err == nil {
		conn.Close()
	}
	return err != nil
}
