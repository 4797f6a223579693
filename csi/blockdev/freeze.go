package blockdev

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// Who makes a copy of a volume that this node has asks it, through the pool, to stop writing
// for so long (package volume). The node stops when it sees that somebody really waits, says
// so, and says in the end whether nothing was written all the time: only then the copy is
// good. It goes on by itself when nobody waits any more.

const (
	// askEvery is how often pools are looked at for questions.
	askEvery = time.Second
	// readEvery is how often a question is read again that is being answered.
	readEvery = 50 * time.Millisecond
	// BeatLimit is how long a node waits for the next beat of who asks, before it goes on.
	BeatLimit = 5 * time.Second
)

// Answer answers questions until the context ends.
func (h *Manager) Answer(ctx context.Context) error {
	return h.eachPool(ctx, askEvery, func(pool string, volumes []*attachment) {
		here := attachedOf(volumes)
		if len(here) == 0 {
			return
		}
		if err := h.look(ctx, pool, here); err != nil {
			h.Log.V(1).Info("cannot look for questions", "pool", pool, "error", err.Error())
		}
	})
}

// attachedOf gives the volumes that this node has, by name.
func attachedOf(volumes []*attachment) map[string]*attachment {
	here := map[string]*attachment{}
	for _, one := range volumes {
		if one.attached.Load() {
			here[one.name] = one
		}
	}
	return here
}

// look begins to answer the questions of a pool that are new.
func (h *Manager) look(ctx context.Context, pool string, here map[string]*attachment) error {
	p, err := h.Catalog.Pool(pool)
	if err != nil {
		return err
	}
	path, err := h.Pools.Running(p, schema.Block)
	if err != nil {
		return err
	}
	root, err := safepath.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	b := backend.Block{Root: root}
	asks, err := b.FreezeRequests()
	if err != nil {
		return err
	}
	h.forget(pool, asks)
	for ask, name := range asks {
		one := here[name]
		if one == nil {
			continue
		}
		if _, known := h.asks.LoadOrStore(askKey{pool, ask}, true); known {
			continue
		}
		asked, err := b.OpenFreezeRequest(ask)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		go func() {
			if err := h.answer(ctx, one, asked); err != nil {
				h.Log.Info("a volume was not stopped for a copy", "pool", pool, "volume", name, "error", err.Error())
			}
		}()
	}
	return nil
}

// askKey is a question of a pool.
type askKey struct{ pool, ask string }

// forget drops the questions of a pool that have gone.
func (h *Manager) forget(pool string, asks map[string]string) {
	h.asks.Range(func(k, _ any) bool {
		key := k.(askKey)
		if _, there := asks[key.ask]; key.pool == pool && !there {
			h.asks.Delete(key)
		}
		return true
	})
}

// answer answers one question, to its end.
func (h *Manager) answer(ctx context.Context, one *attachment, asked *backend.ReceivedFreeze) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beats := follow(ctx, asked)
	for range 2 { // what is left of a question of long ago has no second beat
		if _, waits := next(ctx, beats); !waits {
			return nil
		}
	}
	h.say(asked, ondisk.Stopping, nil)
	s, err := h.stop(ctx, one)
	if err != nil {
		h.say(asked, ondisk.Refused, err)
		return err
	}
	defer s.goOn()
	begin := time.Now()
	h.Log.Info("stopped a volume for a copy", "pool", one.pool, "volume", one.name)
	h.say(asked, ondisk.Stopped, nil)
	for {
		a, waits := next(ctx, beats)
		if !waits {
			h.Log.Info("a volume goes on, nobody waits any more", "pool", one.pool, "volume", one.name, "stopped", time.Since(begin).String())
			return nil
		}
		state, err := s.kept()
		if !a.Copied && state == ondisk.Kept {
			continue
		}
		s.goOn()
		h.say(asked, state, err)
		h.Log.Info("a volume goes on", "pool", one.pool, "volume", one.name, "stopped", time.Since(begin).String(), "state", state)
		return nil
	}
}

// follow reads a question again and again, and gives the latest one that differs from the one
// before. It ends, and closes the question, when that was taken back.
func follow(ctx context.Context, asked *backend.ReceivedFreeze) <-chan ondisk.FreezeRequest {
	beats := make(chan ondisk.FreezeRequest, 1)
	go func() {
		defer close(beats)
		defer asked.Close()
		for last := int64(-1); ; {
			a, err := asked.Read()
			if err != nil {
				return
			}
			if a.Heartbeat != last {
				last = a.Heartbeat
				select {
				case <-beats: // nobody has read the one before
				default:
				}
				beats <- a
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(readEvery):
			}
		}
	}()
	return beats
}

// next waits for the next beat; false when there is none for too long.
func next(ctx context.Context, beats <-chan ondisk.FreezeRequest) (a ondisk.FreezeRequest, waits bool) {
	select {
	case a, waits = <-beats:
	case <-ctx.Done():
	case <-time.After(BeatLimit):
	}
	return a, waits
}

// say answers. A pool that does not take the answer in time holds nobody up: who asks finds
// that there is none.
func (h *Manager) say(asked *backend.ReceivedFreeze, state ondisk.State, why error) {
	answer := ondisk.FreezeStatus{Node: h.Node, State: state}
	if why != nil {
		answer.Why = why.Error()
	}
	said := make(chan error, 1)
	go func() { said <- asked.Reply(answer) }()
	select {
	case err := <-said:
		if err != nil {
			h.Log.V(1).Info("an answer was not taken", "state", state, "error", err.Error())
		}
	case <-time.After(BeatLimit):
	}
}
