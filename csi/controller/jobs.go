package controller

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atoll-storage/atoll/csi/rpc"
)

// jobs are copies in progress. A copy may take longer than the call that started it: it
// continues, and a repeated call finds it.
type jobs struct {
	mu      sync.Mutex
	running map[string]*job // by the key of the volume or snapshot that they create
}

type job struct {
	ended  chan struct{} // closed at the end
	err    error
	copied atomic.Int64 // bytes
	size   atomic.Int64 // bytes; 0 until it is known
}

// jobLimit ends a copy that does not end by itself.
const jobLimit = 24 * time.Hour

// do starts a job, unless one with this key runs, and waits for its end. It returns ErrBusy
// when the call ends first.
func (s *jobs) do(ctx context.Context, key string, work func(context.Context, *job) error) error {
	j := s.start(ctx, key, work)
	select {
	case <-j.ended:
		return j.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %d of %d bytes copied", rpc.ErrBusy, j.copied.Load(), j.size.Load())
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
	j := &job{ended: make(chan struct{})}
	s.running[key] = j
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), jobLimit)
		defer cancel()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.running, key)
			close(j.ended)
		}()
		j.err = work(ctx, j)
	}()
	return j
}

// isRunning reports whether a job with this key runs.
func (s *jobs) isRunning(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running[key] != nil
}

// setProgress sets how much is copied.
func (j *job) setProgress(copied, size int64) {
	j.size.Store(size)
	j.copied.Store(copied)
}
