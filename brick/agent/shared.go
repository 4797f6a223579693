package agent

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// keepLeast is for how long the result of a walk is given to all callers. It is shorter than
	// a brick's restart, so that pending heals are noticed before the next brick is restarted.
	keepLeast = 2 * time.Second
	// keepFactor bounds the load on the brick: a result is kept so many times as long as it took.
	keepFactor = 2
	// keepOnline is for how long the answer of the brick to a handshake is kept.
	keepOnline = time.Second
	// onlineLimit is how long a handshake with the brick may take.
	onlineLimit = 5 * time.Second
)

// errUnfinished says that a computation has not ended when its caller gave up.
var errUnfinished = errors.New("not finished yet; retry")

// shared is a value that is computed for all callers at once: one computation runs at a time, and
// its result is kept for a while. A caller in a loop causes no more work than one that asks
// sometimes, and callers that give up leave nothing behind.
type shared[T any] struct {
	least time.Duration // for how long a result is kept at least
	times int           // and so many times as long as it took
	limit time.Duration // how long computing may take
	// fleeting reports whether a value must not be kept: a pool whose bricks say that they are
	// empty is deleted. Nil: every value may be kept.
	fleeting func(T) bool

	mu      sync.Mutex
	running chan struct{} // closed when the computation ends; nil while none runs
	value   T             // the last result
	err     error
	until   time.Time // when the result is outdated
}

// get returns the value, or errUnfinished and the former value when the context ends first. The
// context that compute gets does not end with a caller's.
func (s *shared[T]) get(ctx context.Context, compute func(context.Context) (T, error)) (T, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		if time.Now().Before(s.until) {
			return s.value, s.err
		}
		s.running = make(chan struct{})
		go s.run(context.WithoutCancel(ctx), s.running, compute)
	}
	running := s.running
	s.mu.Unlock()
	var err error
	select {
	case <-running:
	case <-ctx.Done():
		err = errUnfinished
	}
	s.mu.Lock()
	if err != nil {
		return s.value, err
	}
	return s.value, s.err
}

func (s *shared[T]) run(ctx context.Context, ended chan struct{}, compute func(context.Context) (T, error)) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	begin := time.Now()
	value, err := compute(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.err, s.running = value, err, nil
	if s.fleeting == nil || !s.fleeting(value) {
		s.until = time.Now().Add(max(s.least, time.Duration(s.times)*time.Since(begin)))
	}
	close(ended)
}

// probes are the values that anybody may request and that cost more than a system call.
type probes struct {
	xattrop, dirty shared[int]      // entries of the indices
	lowest         shared[lowest]   // of the index xattrop
	empty          shared[bool]     // whether the brick has neither volumes nor files: only false is kept
	online         shared[struct{}] // an error while the brick does not answer
	complete       shared[struct{}] // an error while the brick lacks data
	blames         shared[[]string] // positions of bricks that lack something
	metrics        shared[page]

	reading chan struct{} // has an element while the entries of the index are read
}

// newProbes returns probes whose results are kept for a time, or for so many times as long as
// they took.
func newProbes(least, online time.Duration, times int) *probes {
	return &probes{
		xattrop: shared[int]{least: least, times: times, limit: countLimit},
		dirty:   shared[int]{least: least, times: times, limit: countLimit},
		lowest:  shared[lowest]{least: least, times: times, limit: countLimit},
		empty: shared[bool]{
			least: least, times: times, limit: countLimit,
			fleeting: func(empty bool) bool { return empty },
		},
		online:   shared[struct{}]{least: online, limit: onlineLimit},
		complete: shared[struct{}]{least: online, limit: onlineLimit},
		blames:   shared[[]string]{least: online, times: times, limit: countLimit},
		metrics:  shared[page]{least: least, times: times, limit: countLimit},
		reading:  make(chan struct{}, 1),
	}
}
