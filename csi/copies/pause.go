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
	// beatEvery is how often a node is told that it is still waited for: well below
	// devices.BeatLimit.
	beatEvery = 200 * time.Millisecond
	// seenLimit is how long a node may take to see a question.
	seenLimit = 10 * time.Second
	// stopLimit is how long it may take from then on to write out what it has.
	stopLimit = time.Minute
	// confirmLimit is how long it may take to say whether something was written.
	confirmLimit = 10 * time.Second
	// answerEvery is how often the answer is read.
	answerEvery = 30 * time.Millisecond
)

// pause is a volume that stands still on the node that has it.
type pause struct {
	source *backend.Source
	// still ends when the node says that something was written: what is being copied is of
	// no use then.
	still context.Context
	moved context.CancelCauseFunc
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu  sync.Mutex
	ask *backend.FreezeRequest
}

// begin has the node stop writing. ErrMoving when it has given the volume back meanwhile.
func begin(ctx context.Context, o Request, s *backend.Source) (*pause, error) {
	ask, err := o.Blocks.RequestFreeze(s.Name)
	if err != nil {
		return nil, err
	}
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &pause{source: s, stop: stop, ask: ask}
	p.still, p.moved = context.WithCancelCause(ctx)
	p.done.Go(func() { p.beat(beating) })
	err = p.wait(ctx, seenLimit, ondisk.Stopping, ondisk.Stopped)
	if err == nil {
		err = p.wait(ctx, stopLimit, ondisk.Stopped)
	}
	if err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

func (p *pause) beat(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		_ = p.ask.Heartbeat() // the node goes on if it is not heard of for too long, and says so in the end
		a, err := p.ask.Status()
		p.mu.Unlock()
		if err == nil && a.State == ondisk.Written {
			p.moved(p.unkept(a))
		}
	}
}

// unkept is the error of a volume that did not stand still.
func (p *pause) unkept(a ondisk.FreezeStatus) error {
	return fmt.Errorf("%w: node %s says of volume %s: %s", ErrMoving, a.Node, p.source.Name, a.Why)
}

// confirm has the node say that nothing was written; ErrMoving when something was.
func (p *pause) confirm(ctx context.Context) error {
	p.mu.Lock()
	err := p.ask.MarkCopied()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.wait(ctx, confirmLimit, ondisk.Kept)
}

// wait waits for one of these answers.
func (p *pause) wait(ctx context.Context, limit time.Duration, states ...ondisk.State) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		a, err := p.ask.Status()
		if err != nil {
			return fmt.Errorf("reading the answer of the node that has volume %s: %w", p.source.Name, err)
		}
		if slices.Contains(states, a.State) {
			return nil
		}
		if a.State == ondisk.Refused || a.State == ondisk.Written {
			return p.unkept(a)
		}
		select {
		case <-ctx.Done():
			return p.silent(a, limit)
		case <-time.After(answerEvery):
		}
	}
}

// silent tells why there was no answer.
func (p *pause) silent(last ondisk.FreezeStatus, limit time.Duration) error {
	if freed, err := p.source.Freed(); freed || err != nil {
		return errors.Join(fmt.Errorf("%w: the node has given volume %s back", ErrMoving, p.source.Name), err)
	}
	said := "nothing"
	if last.State != "" {
		said = string(last.State)
	}
	return fmt.Errorf("%w: node %s has volume %s and said %s within %s; is its atoll-csi-mounter pod well, and of this version?", ErrSilent, p.source.Node, p.source.Name, said, limit)
}

// end takes the question back: the node goes on.
func (p *pause) end() {
	p.stop()
	p.done.Wait()
	p.moved(nil)
	_ = p.ask.Withdraw() // what stays has no beat, and is swept
}
