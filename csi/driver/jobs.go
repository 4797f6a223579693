package driver

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// jobs are copies that are being made. One may take longer than the call that wanted it: it
// goes on, and a repeat of the call finds it.
type jobs struct {
	mu      sync.Mutex
	running map[string]*job // by the key of what it makes
}

type job struct {
	done  chan struct{} // closed when it has ended
	err   error
	there atomic.Int64 // bytes that are copied
	size  atomic.Int64 // of how many; 0 when that is not known yet
}

// jobLimit ends a copy that does not end by itself.
const jobLimit = 24 * time.Hour

// do has work done, or finds it under way, and waits for its end. errBusy when the call ends
// before.
func (s *jobs) do(ctx context.Context, key string, work func(context.Context, *job) error) error {
	j := s.start(ctx, key, work)
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %d of %d bytes are copied", errBusy, j.there.Load(), j.size.Load())
	}
}

func (s *jobs) start(ctx context.Context, key string, work func(context.Context, *job) error) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.running[key]; j != nil {
		return j
	}
	if s.running == nil {
		s.running = map[string]*job{}
	}
	j := &job{done: make(chan struct{})}
	s.running[key] = j
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobLimit)
		defer cancel()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.running, key)
			close(j.done)
		}()
		j.err = work(ctx, j)
	}()
	return j
}

// run tells whether a job for this key is under way.
func (s *jobs) run(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[key] != nil
}

// said notes how far a job is.
func (j *job) said(there, size int64) {
	j.size.Store(size)
	j.there.Store(there)
}
