package copies

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

const (
	// heartbeatEvery is how often the node gets a heartbeat: well below
	// blockdev.HeartbeatLimit.
	heartbeatEvery = 200 * time.Millisecond
	// seenLimit is how long a node may take to see a request.
	seenLimit = 10 * time.Second
	// flushLimit is how long it may take after that to flush its writes.
	flushLimit = time.Minute
	// confirmLimit is how long it may take to report whether something was written.
	confirmLimit = 10 * time.Second
	// statusEvery is how often its status is read.
	statusEvery = 30 * time.Millisecond
)

// pause is a pause of writes to an attached volume, on its node.
type pause struct {
	source *backend.Source
	// unwritten ends when the node reports that something was written: the copy is useless then.
	unwritten context.Context
	abort     context.CancelCauseFunc
	stop      context.CancelFunc
	done      sync.WaitGroup

	mu      sync.Mutex
	request *backend.FreezeRequest
}

// beginPause pauses writes on the node. ErrSourceWritten when the node has detached the volume.
func beginPause(ctx context.Context, r Request, s *backend.Source) (*pause, error) {
	request, err := r.Blocks.RequestFreeze(s.Name)
	if err != nil {
		return nil, err
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &pause{source: s, stop: stop, request: request}
	p.unwritten, p.abort = context.WithCancelCause(ctx)
	p.done.Go(func() { p.sendHeartbeats(beating) })
	err = p.wait(ctx, seenLimit, ondisk.Stopping, ondisk.Stopped)
	if err == nil {
		err = p.wait(ctx, flushLimit, ondisk.Stopped)
	}
	if err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func (p *pause) sendHeartbeats(ctx context.Context) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		_ = p.request.Heartbeat() // without heartbeats the node resumes writes, and does not confirm
		status, err := p.request.Status()
		p.mu.Unlock()
		if err == nil && status.State == ondisk.Written {
			p.abort(p.writtenError(status))
		}
	}
}

// writtenError is the error of a volume that was written during the pause.
func (p *pause) writtenError(status ondisk.FreezeStatus) error {
	return fmt.Errorf("%w: node %s reports for volume %s: %s", ErrSourceWritten, status.Node, p.source.Name, status.Why)
}

// confirm asks the node whether nothing was written; ErrSourceWritten when something was.
func (p *pause) confirm(ctx context.Context) error {
	p.mu.Lock()
	err := p.request.MarkCopied()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.wait(ctx, confirmLimit, ondisk.Kept)
}

// wait waits until the node reports one of these states.
func (p *pause) wait(ctx context.Context, limit time.Duration, states ...ondisk.State) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		status, err := p.request.Status()
		if err != nil {
			return fmt.Errorf("read the status of the node that has volume %s attached: %w", p.source.Name, err)
		}
		if slices.Contains(states, status.State) {
			return nil
		}
		if status.State == ondisk.Refused || status.State == ondisk.Written {
			return p.writtenError(status)
		}
		select {
		case <-ctx.Done():
			return p.noAnswerError(status, limit)
		case <-time.After(statusEvery):
		}
	}
}

// noAnswerError is the error of a node that did not report a state within the limit.
func (p *pause) noAnswerError(last ondisk.FreezeStatus, limit time.Duration) error {
	if detached, err := p.source.Detached(); detached || err != nil {
		return errors.Join(fmt.Errorf("%w: the node has detached volume %s", ErrSourceWritten, p.source.Name), err)
	}
	state := "nothing"
	if last.State != "" {
		state = string(last.State)
	}
	return fmt.Errorf("%w: node %s has volume %s attached and reported %s within %s; "+
		"is its atoll-csi-mounter pod running, with the controller's version?",
		ErrNoAnswer, p.source.Node, p.source.Name, state, limit)
}

// end withdraws the request: the node resumes writes.
func (p *pause) end() {
	p.stop()
	p.done.Wait()
	p.abort(nil)
	_ = p.request.Withdraw() // a leftover has no heartbeat, and is swept
}
