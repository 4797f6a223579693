// Package agents sends requests to the agents of a pool's bricks, to all at once.
package agents

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
)

// Limit is how long one agent may take.
const Limit = 10 * time.Second

// ErrNone means that no agent can be asked: the bricks have none, as in External pools, or the
// driver has no keys.
var ErrNone = errors.New("the bricks have no agents that trust the driver")

// Agents are the agents that trust the driver because of its keys.
type Agents struct {
	// Keys returns the current keys, which may change while the driver runs.
	Keys   func() (agent.Keys, error)
	Client agent.Client
}

// Brick is a brick whose agent gets a request.
type Brick struct {
	Index    int
	At       string // host:port of its agent
	Audience string // what a request to it is signed for
	Keys     agent.Keys
}

// Each sends a request to the agents of all bricks of a pool at once, waits for them, and
// returns their errors by the bricks' indices; ErrNone when no request was sent.
func (a *Agents) Each(ctx context.Context, p catalog.Pool, ask func(context.Context, Brick) error) ([]error, error) {
	keys, err := a.Keys()
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 || len(p.Bricks) == 0 {
		return nil, ErrNone
	}
	for _, b := range p.Bricks {
		if b.Agent == 0 {
			return nil, ErrNone
		}
	}
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	errs := make([]error, len(p.Bricks))
	var wait sync.WaitGroup
	for i, b := range p.Bricks {
		brick := Brick{
			Index: i, At: net.JoinHostPort(b.Host, strconv.Itoa(b.Agent)),
			Audience: agent.Audience(p.Namespace, p.Pool, strconv.Itoa(i)), Keys: keys,
		}
		wait.Go(func() {
			if err := ask(ctx, brick); err != nil {
				errs[i] = fmt.Errorf("agent of brick %d (%s): %w", i, brick.At, err)
			}
		})
	}
	wait.Wait()
	return errs, nil
}
