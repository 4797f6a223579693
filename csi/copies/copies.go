// Package copies makes snapshots and clones of block volumes within their pool. Bricks share
// the content where their file systems support it, which takes no time; otherwise it is read
// and written. To copy an attached volume, its node is asked to pause writes.
package copies

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/agents"
	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
)

// Errors.
var (
	// ErrSourceWritten reports that the source was written while it was copied, or attached to another
	// node: the copy must be made again.
	ErrSourceWritten = errors.New("the volume was written while it was copied")
	// ErrPauseLimit reports that writes to an attached volume would be paused for too long.
	ErrPauseLimit = errors.New("the volume is in use, and its content cannot be copied within the pause limit")
	// ErrShared reports that a shared volume is attached to a node.
	ErrShared = errors.New("the volume is shared and in use: it can be copied when no node has it attached")
	// ErrNoAnswer reports that the node of a volume does not respond.
	ErrNoAnswer = errors.New("the node that has the volume attached does not respond")
)

// PauseLimit is how long writes to an attached volume may be paused, unless the Request has
// another limit. It matters where bricks cannot share content.
const PauseLimit = time.Minute

// attempts is how often a copy is made again when the source was written in between: writes to
// raw devices cannot be paused, but often there are none for a moment.
const attempts = 5

// progressEvery is how often a long copy logs its progress.
const progressEvery = 10 * time.Second

// Copier makes copies.
type Copier struct {
	Agents *agents.Agents // nil: bricks do not share content
	Log    logr.Logger
}

// Request describes a copy to be made.
type Request struct {
	Pool   catalog.Pool
	Blocks backend.Block
	// Open opens the source. Each attempt opens it again.
	Open func() (*backend.Source, error)
	// Key is the key of the future snapshot or volume: backend.SnapshotKey or VolumeKey.
	Key string
	// Pause is how long writes to an attached volume may be paused; 0 is PauseLimit.
	Pause time.Duration
	// OnProgress, unless it is nil, is called with the number of bytes that are copied.
	OnProgress func(done, size int64)
}

// Finish gives a copy its record and its final path. The copy has the content that its source
// had at this time.
type Finish func(c *backend.Copy, source *backend.Source, at time.Time) error

// Copy makes a copy and calls finish. It may be interrupted anywhere and repeated: a copy whose
// source was not written since is continued.
func (c Copier) Copy(ctx context.Context, r Request, finish Finish) error {
	for n := 1; ; n++ {
		err := c.copyOnce(ctx, r, finish)
		if !errors.Is(err, ErrSourceWritten) || n == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(time.Duration(n) * 50 * time.Millisecond):
		}
	}
}

func (c Copier) copyOnce(ctx context.Context, r Request, finish Finish) error {
	source, err := r.Open()
	if err != nil {
		return err
	}
	defer source.Close()
	switch {
	case !source.Attached:
		return c.copyPaused(ctx, r, source, finish, func() error { return checkUnchanged(source) })
	case source.Shared:
		return fmt.Errorf("%w: %s", ErrShared, source.Key)
	}
	p, err := beginPause(ctx, r, source)
	if err != nil {
		return err
	}
	defer p.end()
	return c.copyPaused(p.unwritten, r, source, finish, func() error { return p.confirm(ctx) })
}

// checkUnchanged returns an error if the volume was attached while it was copied.
func checkUnchanged(s *backend.Source) error {
	is, err := s.Unchanged()
	if err == nil && !is {
		err = fmt.Errorf("%w: %s was attached to a node", ErrSourceWritten, s.Key)
	}
	return err
}

// copyPaused copies a source that is not written now. confirm checks that afterwards.
func (c Copier) copyPaused(
	ctx context.Context, r Request, s *backend.Source, finish Finish, confirm func() error,
) (err error) {
	at := time.Now()
	filled, err := c.fill(ctx, r, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, filled.Close()) }()
	if err := confirm(); err != nil {
		return errors.Join(err, filled.Discard())
	}
	err = finish(filled, s, at)
	if errors.Is(err, backend.ErrExists) {
		err = errors.Join(err, filled.Discard())
	}
	return err
}

// fill returns a copy with the whole content.
func (c Copier) fill(ctx context.Context, r Request, s *backend.Source) (*backend.Copy, error) {
	if shared, err := c.share(ctx, r, s); shared != nil || err != nil {
		return shared, err
	}
	filled, err := r.Blocks.BeginCopy(r.Key, 0, s)
	if err != nil {
		return nil, err
	}
	limit, cancel := ctx, func() {}
	if s.Attached {
		limit, cancel = context.WithTimeoutCause(ctx, r.pause(),
			fmt.Errorf("%w (%s); delete its pods, use bricks with XFS, or set pauseLimit", ErrPauseLimit, r.pause()))
	}
	defer cancel()
	begin, reported, before := time.Now(), time.Now(), filled.Done
	err = filled.Fill(limit, func(done int64) {
		if r.OnProgress != nil {
			r.OnProgress(done, s.Size)
		}
		if time.Since(reported) > progressEvery {
			reported = time.Now()
			c.Log.Info("copying", "pool", r.Pool.Pool, "from", s.Key, "to", r.Key, "bytes", done, "of", s.Size)
		}
	})
	if err == nil {
		c.Log.Info("copied", "pool", r.Pool.Pool, "from", s.Key, "to", r.Key, "bytes", s.Size-before,
			"took", time.Since(begin).String())
		return filled, nil
	}
	if limit.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(limit), err)
	}
	if s.Attached { // it cannot be continued
		err = errors.Join(err, filled.Discard())
	}
	return nil, errors.Join(err, filled.Close())
}

func (r Request) pause() time.Duration {
	if r.Pause > 0 {
		return r.Pause
	}
	return PauseLimit
}
