// Package rebalance distributes the files of a pool over its sets after a set was added,
// and moves them off sets that are being removed. GlusterFS moves the files; this package
// starts it when that is safe, reports its progress, and verifies the result.
package rebalance

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
)

// Intervals and limits.
const (
	pollEvery  = 2 * time.Second  // between polls of the bricks, the volfile or the process
	logEvery   = 10 * time.Second // between log lines about progress
	retryAfter = 30 * time.Second // between attempts
	peerLimit  = 5 * time.Second  // for one answer of a brick or an agent
)

// Rebalancer moves the files of one pool to where its volfile's layout has them.
type Rebalancer struct {
	Namespace, Pool string
	// Volfile is the path of the graph. The file changes with the pool's document, up to a
	// minute later.
	Volfile string
	// Layout is the layout to reach. While the volfile has another one, no files are moved,
	// and none are settled. "" means that of the volfile.
	Layout string
	// Socket is the unix socket of the rebalance process.
	Socket string
	// Settle is how long all bricks must have answered before any file is moved: nodes
	// take that long to get a changed volfile, and files must not move to a set that a
	// client does not know.
	Settle    time.Duration
	AgentPort int
	Keys      func() (agent.Keys, error)
	Log       logr.Logger

	agents agent.Client

	nextCount time.Time // when files on leaving bricks are counted next

	mu       sync.Mutex
	settled  string // the layout that all files are in, "" for none
	reason   string // why files are not in the wanted layout
	last     gluster.Progress
	attempts struct { // failed attempts to reach a layout
		layout string
		times  int
	}
}

// Errors.
var (
	// ErrSuperseded says that the volfile has changed during the rebalance.
	ErrSuperseded = errors.New("the pool's document has changed")
	// ErrIncomplete says that files were left behind. The next run continues.
	ErrIncomplete = errors.New("not all files could be moved")
	// ErrUnsettled says that files are being moved, or will be.
	ErrUnsettled = errors.New("the files are not in the layout of the pool's document")
	// ErrOtherLayout says that the volfile or this process is of a former document.
	ErrOtherLayout = errors.New("the volfile has another layout than this pod; wait about a minute until the kubelet " +
		"updates the volfile, or the Deployment the pod")
)

// Run rebalances whenever files are not in the volfile's layout, until the context ends.
func (r *Rebalancer) Run(ctx context.Context) error {
	for {
		pause := pollEvery
		if err := r.runOnce(ctx); err != nil && ctx.Err() == nil {
			if r.setReason(err.Error()) || !errors.Is(err, ErrOtherLayout) { // it is polled often
				r.Log.Info("the rebalance is not complete", "reason", err.Error())
			}
			if !errors.Is(err, ErrSuperseded) && !errors.Is(err, ErrOtherLayout) {
				pause = retryAfter
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Settled is nil when the volfile is that of the wanted layout, and all files are in it.
func (r *Rebalancer) Settled() error {
	g, _, err := r.graph()
	if err != nil {
		return err
	}
	if err := r.checkCurrent(g); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsettled, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled != g.LayoutID {
		return fmt.Errorf("%w: %s", ErrUnsettled, r.reason)
	}
	return nil
}

// Last is the last reported progress.
func (r *Rebalancer) Last() gluster.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// setReason reports whether the reason is another one than before.
func (r *Rebalancer) setReason(reason string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.reason != reason
	r.reason = reason
	return changed
}

func (r *Rebalancer) setSettled(layout string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled = layout
	if layout != "" {
		r.reason = ""
	}
}

func (r *Rebalancer) isSettled(layout string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled == layout
}

// runOnce does one rebalance if it is needed. It can be interrupted anywhere.
func (r *Rebalancer) runOnce(ctx context.Context) error {
	g, text, err := r.graph()
	if err != nil {
		return err
	}
	if err := r.checkCurrent(g); err != nil {
		if r.isSettled(r.Layout) { // and may have to settle again
			r.setSettled("")
			r.announceMove(ctx, g)
		}
		return err
	}
	if r.isSettled(g.LayoutID) {
		return r.recheckLeaving(ctx, g)
	}
	r.setSettled("") // files may leave the layout that they are in
	if r.bricksHaveLayout(ctx, g) && r.checkLeavingEmpty(ctx, g) == nil {
		r.Log.Info("all files are already in the wanted layout", "layout", g.LayoutID)
		r.setSettled(g.LayoutID)
		return nil
	}
	r.setReason("waiting until all bricks and clients know the layout")
	r.announceMove(ctx, g)
	if err := r.waitForBricks(ctx, g); err != nil {
		return err
	}
	if err := r.recordMoving(ctx, g); err != nil {
		return err
	}
	r.setReason("files are being moved")
	last, err := r.moveUnlessChanged(ctx, g, text)
	if err != nil {
		return err
	}
	if last.State != gluster.RebalanceComplete {
		return fmt.Errorf("%w: GlusterFS stopped before it had scanned all files; the log above says why",
			ErrIncomplete)
	}
	if last.Failed > 0 && !r.acceptFailures(g) {
		return fmt.Errorf("%w: %d failed; the log above has their names. Files that are written without pause have to wait", ErrIncomplete, last.Failed)
	}
	if err := r.checkLeavingEmpty(ctx, g); err != nil {
		return err
	}
	r.recordLayout(ctx, g)
	r.setSettled(g.LayoutID)
	return nil
}

// recheckMinimum is the shortest pause between counts; it is longer where counting takes long.
const recheckMinimum = 10 * time.Second

// recheckLeaving verifies that leaving bricks stay empty for as long as they exist: a node
// with an outdated volfile may still write to them.
func (r *Rebalancer) recheckLeaving(ctx context.Context, g gluster.Rebalance) error {
	if len(g.Leaving) == 0 || time.Now().Before(r.nextCount) {
		return nil
	}
	begin := time.Now()
	err := r.checkLeavingEmpty(ctx, g)
	r.nextCount = time.Now().Add(max(recheckMinimum, 10*time.Since(begin)))
	if errors.Is(err, ErrIncomplete) {
		r.setSettled("")
		return err
	}
	if err != nil {
		r.Log.Info("cannot verify that leaving bricks are still empty", "error", err.Error())
	}
	return nil
}

// maxAttempts is how often a rebalance is tried before failures are accepted.
const maxAttempts = 3

// acceptFailures reports whether files that could not be moved may stay where they are:
// clients find them there too, unless their set is leaving.
func (r *Rebalancer) acceptFailures(g gluster.Rebalance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.attempts.layout != g.LayoutID {
		r.attempts.layout, r.attempts.times = g.LayoutID, 0
	}
	r.attempts.times++
	return len(g.Leaving) == 0 && r.attempts.times >= maxAttempts
}

// moveUnlessChanged moves files, and stops when the volfile changes.
func (r *Rebalancer) moveUnlessChanged(
	ctx context.Context, g gluster.Rebalance, text string,
) (gluster.Progress, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel(nil)
	watching.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pollEvery):
			}
			if err := r.checkUnchanged(g); err != nil {
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
		return gluster.Rebalance{}, "", fmt.Errorf("read the volfile of the rebalance: %w", err)
	}
	g, err := gluster.ParseRebalance(string(text))
	return g, string(text), err
}

// checkCurrent is ErrOtherLayout when g is not of the wanted layout.
func (r *Rebalancer) checkCurrent(g gluster.Rebalance) error {
	if r.Layout != "" && g.LayoutID != r.Layout {
		return fmt.Errorf("%w: layout %s, want %s", ErrOtherLayout, g.LayoutID, r.Layout)
	}
	return nil
}

// checkUnchanged is ErrSuperseded when the volfile's layout differs from g's.
func (r *Rebalancer) checkUnchanged(g gluster.Rebalance) error {
	now, _, err := r.graph()
	if err == nil && now.LayoutID != g.LayoutID {
		err = ErrSuperseded
	}
	return err
}

// waitForBricks returns once all bricks have answered without interruption for Settle.
func (r *Rebalancer) waitForBricks(ctx context.Context, g gluster.Rebalance) error {
	var since, logged time.Time
	for {
		if err := r.checkUnchanged(g); err != nil {
			return err
		}
		offline := r.offlineHosts(ctx, g)
		switch {
		case len(offline) > 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= r.Settle:
			return nil
		}
		if time.Since(logged) > logEvery {
			logged = time.Now()
			r.Log.Info("waiting until all bricks and clients know the layout", "bricks", len(g.Bricks), "away", offline,
				"for", r.Settle.String())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the bricks of pool %s: %w", r.Pool, ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// offlineHosts lists the hosts of bricks that do not answer a GlusterFS handshake.
func (r *Rebalancer) offlineHosts(ctx context.Context, g gluster.Rebalance) []string {
	var hosts []string
	for i, err := range forEachBrick(g.Bricks, func(b gluster.HealBrick) error {
		ctx, cancel := context.WithTimeout(ctx, peerLimit)
		defer cancel()
		return gluster.Ping(ctx, net.JoinHostPort(b.Host, b.Port))
	}) {
		if err != nil {
			hosts = append(hosts, g.Bricks[i].Host)
		}
	}
	return hosts
}

// forEachBrick calls ask for all bricks concurrently.
func forEachBrick(bricks []gluster.HealBrick, ask func(gluster.HealBrick) error) []error {
	errs := make([]error, len(bricks))
	var wait sync.WaitGroup
	for i, b := range bricks {
		wait.Go(func() { errs[i] = ask(b) })
	}
	wait.Wait()
	return errs
}

func (r *Rebalancer) agentAddress(b gluster.HealBrick) string {
	return net.JoinHostPort(b.Host, strconv.Itoa(r.AgentPort))
}

// audience is what requests to a brick's agent are signed for.
func (r *Rebalancer) audience(b gluster.HealBrick) string {
	return agent.Audience(r.Namespace, r.Pool, strings.TrimPrefix(b.Name, r.Pool+"-client-"))
}

// checkLeavingEmpty verifies that no file is left on leaving bricks.
func (r *Rebalancer) checkLeavingEmpty(ctx context.Context, g gluster.Rebalance) error {
	if len(g.Leaving) == 0 {
		return nil
	}
	keys, err := r.Keys()
	if err != nil {
		return err
	}
	return errors.Join(forEachBrick(g.Leaving, func(b gluster.HealBrick) error {
		ctx, cancel := context.WithTimeout(ctx, agent.LeftoverLimit)
		defer cancel()
		left, err := r.agents.Leftover(ctx, r.agentAddress(b), r.audience(b), keys)
		if err != nil {
			return fmt.Errorf("count the files left on %s: %w", b.Host, err)
		}
		if left.Files > 0 {
			return fmt.Errorf("%w: %s still has %d; its agent's log names some. Files that are open may have to wait",
				ErrIncomplete, b.Host, left.Files)
		}
		return nil
	})...)
}
