package quota

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// Agents asks the agents of a pool's bricks.
type Agents struct {
	// Keys gives the keys of this moment: they may change while the driver runs.
	Keys func() (agent.Keys, error)

	client agent.Client
}

// agentLimit is how long one agent may take.
const agentLimit = 10 * time.Second

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
	keys, err := a.Keys()
	if err != nil {
		return "", err
	}
	if len(keys) == 0 || p.Type == schema.External || p.Type == schema.Arbiter {
		return ModeAdvisory, nil
	}
	ctx, cancel := context.WithTimeout(ctx, agentLimit)
	defer cancel()
	enforced := make([]bool, len(p.Bricks))
	errs := make([]error, len(p.Bricks))
	var wait sync.WaitGroup
	for i, b := range p.Bricks {
		if b.Agent == 0 {
			return ModeAdvisory, nil
		}
		wait.Go(func() {
			enforced[i], errs[i] = a.one(ctx, p, i, agent.LimitRequest{Folder: folder, Bytes: size}, keys)
			if errs[i] != nil && away(ctx, b) {
				enforced[i], errs[i] = true, nil
			}
		})
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	for _, is := range enforced {
		if !is {
			return ModeAdvisory, nil
		}
	}
	if len(p.Bricks) > p.SetSize {
		return ModeEachSet, nil
	}
	return ModeEnforced, nil
}

// one asks the agent of one brick.
func (a *Agents) one(ctx context.Context, p catalog.Pool, index int, q agent.LimitRequest, keys agent.Keys) (enforced bool, err error) {
	b := p.Bricks[index]
	at := net.JoinHostPort(b.Host, strconv.Itoa(b.Agent))
	l, err := a.client.Limit(ctx, at, agent.Audience(p.Namespace, p.Pool, strconv.Itoa(index)), q, keys)
	if err != nil {
		return false, fmt.Errorf("the agent of brick %d (%s): %w", index, at, err)
	}
	return l.Enforced, nil
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
