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

// Agents is the Limiter of pools whose bricks have agents.
type Agents struct{ *agents.Agents }

// dialLimit is how long connecting to a brick may take before it counts as down.
const dialLimit = 2 * time.Second

// Limit sends the limit to all agents at once. A brick that is down with its agent does not
// keep a volume from being created: its agent finds the record when it is up again. Sizes are
// advisory in pools without agents, without keys, and with an arbiter, where a full brick
// causes random errors (docs/limitations.md).
func (a *Agents) Limit(ctx context.Context, p catalog.Pool, folder string, size int64) (Mode, error) {
	if p.Type == schema.External || p.Type == schema.Arbiter {
		return ModeAdvisory, nil
	}
	enforced := make([]bool, len(p.Bricks))
	errs, err := a.Each(ctx, p, func(ctx context.Context, b agents.Brick) error {
		answer, err := a.Client.Limit(ctx, b.At, b.Audience, agent.LimitRequest{Folder: folder, Bytes: size}, b.Keys)
		if enforced[b.Index] = answer.Enforced; err != nil && isDown(ctx, p.Bricks[b.Index]) {
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

// isDown reports whether the brick itself cannot be reached either.
func isDown(ctx context.Context, b entry.Brick) bool {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(b.Host, strconv.Itoa(b.Port)))
	if err == nil {
		conn.Close()
	}
	return err != nil
}
