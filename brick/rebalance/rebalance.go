// Package rebalance spreads the files of a pool over its sets after one was added, and
// takes them off sets that are decommissioned. GlusterFS moves them; this package starts
// it when that is safe, tells how far it is, and makes sure that it is done.
package rebalance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
)

// Times.
const (
	look      = 2 * time.Second  // how often bricks, the volfile, or the process are looked at
	tell      = 10 * time.Second // how often progress is logged
	again     = 30 * time.Second // until the next attempt after one that failed
	peerLimit = 5 * time.Second  // for one answer of a brick or an agent
)

// Rebalancer has the files of one pool where its volfile asks for them.
type Rebalancer struct {
	Namespace, Pool string
	// Volfile is the file with the graph; it changes when the pool's document does.
	Volfile string
	// Socket is where the process answers, on this machine.
	Socket string
	// Settle is how long all bricks must have answered before anything is moved: nodes
	// take that long to see a changed pool, and a client that does not know of a set
	// must not look for files that have gone there.
	Settle    time.Duration
	AgentPort int
	Keys      func() (agent.Keys, error)
	Log       logr.Logger

	agents agent.Client

	nextCount time.Time // of what is on bricks that leave

	mu      sync.Mutex
	settled string // the layout in which all files are
	reason  string // why they are not
	last    gluster.Progress
	tried   struct { // how often files of a layout could not be moved
		layout string
		times  int
	}
}

// Errors.
var (
	// ErrSuperseded says that the volfile has changed while it was worked on.
	ErrSuperseded = errors.New("the pool's document has changed")
	// ErrIncomplete says that files are not where they should be. Another run goes on.
	ErrIncomplete = errors.New("not all files could be moved")
	// ErrUnsettled says that files are on the move, or wait to be.
	ErrUnsettled = errors.New("the files are not spread as the pool's document asks for")
)

// Run works until the context ends: whenever files are not as the volfile asks for.
func (r *Rebalancer) Run(ctx context.Context) error {
	for {
		pause := look
		if err := r.once(ctx); err != nil && ctx.Err() == nil {
			r.note(err.Error())
			r.Log.Info("the files are not spread yet", "reason", err.Error())
			if !errors.Is(err, ErrSuperseded) {
				pause = again
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Settled is nil when all files are where the volfile asks for them.
func (r *Rebalancer) Settled() error {
	g, _, err := r.graph()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled != g.LayoutID {
		return fmt.Errorf("%w: %s", ErrUnsettled, r.reason)
	}
	return nil
}

// Last is how far the last process was when it last told.
func (r *Rebalancer) Last() gluster.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func (r *Rebalancer) note(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason = reason
}

func (r *Rebalancer) settle(layout string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled, r.reason = layout, ""
}

func (r *Rebalancer) isSettled(layout string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled == layout
}

// once does what there is to do. It can be cut off anywhere.
func (r *Rebalancer) once(ctx context.Context) error {
	g, text, err := r.graph()
	if err != nil {
		return err
	}
	if r.isSettled(g.LayoutID) {
		return r.recount(ctx, g)
	}
	if r.done(ctx, g) && r.empty(ctx, g) == nil {
		r.Log.Info("the files are spread already", "layout", g.LayoutID)
		r.settle(g.LayoutID)
		return nil
	}
	r.note("waiting until all bricks and clients know the layout")
	if err := r.wait(ctx, g); err != nil {
		return err
	}
	r.note("files are being moved")
	last, err := r.moveUnlessChanged(ctx, g, text)
	if err != nil {
		return err
	}
	if last.State != gluster.RebalanceComplete {
		return fmt.Errorf("%w: GlusterFS ended before it had looked at all; the log above says why", ErrIncomplete)
	}
	if last.Failed > 0 && !r.mayStay(g) {
		return fmt.Errorf("%w: %d failed; the log above has their names. Files that are written without pause have to wait", ErrIncomplete, last.Failed)
	}
	if err := r.empty(ctx, g); err != nil {
		return err
	}
	r.settle(g.LayoutID)
	r.mark(ctx, g)
	return nil
}

// recountLeast is how long nothing is counted again at least; it is longer where counting
// takes long.
const recountLeast = 10 * time.Second

// recount makes sure that bricks which leave stay empty, for as long as they are there: a
// node that does not hear of changes may still write to them.
func (r *Rebalancer) recount(ctx context.Context, g gluster.Rebalance) error {
	if len(g.Leaving) == 0 || time.Now().Before(r.nextCount) {
		return nil
	}
	begin := time.Now()
	err := r.empty(ctx, g)
	r.nextCount = time.Now().Add(max(recountLeast, 10*time.Since(begin)))
	if errors.Is(err, ErrIncomplete) {
		r.settle("")
		return err
	}
	if err != nil {
		r.Log.Info("it is not known whether bricks that leave are still empty", "error", err.Error())
	}
	return nil
}

// attempts is how often files are tried to be moved that could stay where they are.
const attempts = 3

// mayStay tells whether files that could not be moved can stay where they are: they are
// found there as well, unless their set leaves.
func (r *Rebalancer) mayStay(g gluster.Rebalance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tried.layout != g.LayoutID {
		r.tried.layout, r.tried.times = g.LayoutID, 0
	}
	r.tried.times++
	return len(g.Leaving) == 0 && r.tried.times >= attempts
}

// moveUnlessChanged moves files, and stops that when the volfile changes.
func (r *Rebalancer) moveUnlessChanged(ctx context.Context, g gluster.Rebalance, text string) (gluster.Progress, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	watching.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(look):
			}
			if err := r.unchanged(g); err != nil {
				cancel(err)
				return
			}
		}
	})
	last, err := r.move(ctx, g, text)
	if cause := context.Cause(ctx); cause != nil {
		return last, cause
	}
	return last, err
}

// graph reads the volfile.
func (r *Rebalancer) graph() (gluster.Rebalance, string, error) {
	text, err := os.ReadFile(r.Volfile)
	if err != nil {
		return gluster.Rebalance{}, "", fmt.Errorf("reading the volfile of the rebalance: %w", err)
	}
	g, err := gluster.ParseRebalance(string(text))
	return g, string(text), err
}

// unchanged is ErrSuperseded when the volfile asks for another layout than g does.
func (r *Rebalancer) unchanged(g gluster.Rebalance) error {
	now, _, err := r.graph()
	if err == nil && now.LayoutID != g.LayoutID {
		err = ErrSuperseded
	}
	return err
}

// wait returns when all bricks have answered for a while without a break.
func (r *Rebalancer) wait(ctx context.Context, g gluster.Rebalance) error {
	var since, told time.Time
	for {
		if err := r.unchanged(g); err != nil {
			return err
		}
		away := r.away(ctx, g)
		switch {
		case len(away) > 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= r.Settle:
			return nil
		}
		if time.Since(told) > tell {
			told = time.Now()
			r.Log.Info("waiting until all bricks and clients know the layout", "bricks", len(g.Bricks), "away", away, "for", r.Settle.String())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the bricks of pool %s: %w", r.Pool, ctx.Err())
		case <-time.After(look):
		}
	}
}

// away lists the hosts of bricks that do not answer as GlusterFS does.
func (r *Rebalancer) away(ctx context.Context, g gluster.Rebalance) []string {
	var hosts []string
	for i, err := range each(g.Bricks, func(b gluster.HealBrick) error {
		ctx, cancel := context.WithTimeout(ctx, peerLimit)
		defer cancel()
		return gluster.Greet(ctx, net.JoinHostPort(b.Host, b.Port))
	}) {
		if err != nil {
			hosts = append(hosts, g.Bricks[i].Host)
		}
	}
	return hosts
}

// each asks bricks all at once.
func each(bricks []gluster.HealBrick, ask func(gluster.HealBrick) error) []error {
	errs := make([]error, len(bricks))
	var wait sync.WaitGroup
	for i, b := range bricks {
		wait.Go(func() { errs[i] = ask(b) })
	}
	wait.Wait()
	return errs
}

func (r *Rebalancer) agentOf(b gluster.HealBrick) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(r.AgentPort))
}

// done tells whether bricks have noted that it was done: at least one, and no other
// layout by any that answers. Those that are away, or were replaced, have no say.
func (r *Rebalancer) done(ctx context.Context, g gluster.Rebalance) bool {
	var noted, other atomic.Int32
	each(g.Bricks, func(b gluster.HealBrick) error {
		ctx, cancel := context.WithTimeout(ctx, peerLimit)
		defer cancel()
		s, err := r.agents.Status(ctx, r.agentOf(b))
		switch {
		case err != nil || s.Layout == "":
		case s.Layout == g.LayoutID:
			noted.Add(1)
		default:
			other.Add(1)
		}
		return err
	})
	return noted.Load() > 0 && other.Load() == 0
}

// empty makes sure that nothing is left on bricks that leave.
func (r *Rebalancer) empty(ctx context.Context, g gluster.Rebalance) error {
	return errors.Join(each(g.Leaving, func(b gluster.HealBrick) error {
		ctx, cancel := context.WithTimeout(ctx, agent.LeftoverLimit)
		defer cancel()
		left, err := r.agents.Leftover(ctx, r.agentOf(b))
		if err != nil {
			return fmt.Errorf("counting what is left on %s: %w", b.Host, err)
		}
		if left.Files > 0 {
			return fmt.Errorf("%w: %s still has %d; its agent's log names some. Files that somebody has open may have to wait", ErrIncomplete, b.Host, left.Files)
		}
		return nil
	})...)
}

// mark has all bricks note the layout, so that nobody moves files again for it. Without
// the agents' keys, all files are looked at once more after a restart.
func (r *Rebalancer) mark(ctx context.Context, g gluster.Rebalance) {
	keys, err := r.Keys()
	if err == nil && len(keys) == 0 {
		err = errors.New("there are no keys for the agents")
	}
	if err == nil {
		err = errors.Join(each(g.Bricks, func(b gluster.HealBrick) error {
			ctx, cancel := context.WithTimeout(ctx, peerLimit)
			defer cancel()
			position := b.Name[len(r.Pool+"-client-"):]
			return r.agents.Layout(ctx, r.agentOf(b), agent.Audience(r.Namespace, r.Pool, position), agent.LayoutRequest{Layout: g.LayoutID}, keys)
		})...)
	}
	if err != nil {
		r.Log.Info("the bricks have not noted that the files are spread; after a restart all are looked at again", "error", err.Error())
	}
}
