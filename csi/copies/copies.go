// Package copies makes snapshots and clones of volumes of blocks, within their pool. Bricks
// share the content where their file systems can, which takes no time; else it is read and
// written. A node that has the volume is asked to stop writing for so long.
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
	// ErrMoving says that the source was written while it was copied, or changed hands: the
	// copy is to be made again.
	ErrMoving = errors.New("the volume was written while it was copied")
	// ErrPause says that a volume in use would have to stand still for too long.
	ErrPause = errors.New("the volume is in use, and its content cannot be copied in the time that it may stand still")
	// ErrShared says that several nodes may have the volume, and some have.
	ErrShared = errors.New("the volume is shared, and in use: a copy can be made when no node has it")
	// ErrSilent says that the node that has the volume does not answer.
	ErrSilent = errors.New("the node that has the volume does not answer")
)

// PauseLimit is how long a volume in use may stand still at most, unless a request says
// otherwise. It matters where bricks cannot share content.
const PauseLimit = time.Minute

// attempts is how often a copy is begun anew when the source was written meanwhile: raw
// devices cannot be stopped, but often have nothing to write for a moment.
const attempts = 5

// sayEvery is how often a copy that takes long says how far it is.
const sayEvery = 10 * time.Second

// Copier makes copies.
type Copier struct {
	Agents *agents.Agents // nil: bricks are not asked to share content
	Log    logr.Logger
}

// Request is a copy to be made.
type Request struct {
	Pool   catalog.Pool
	Blocks backend.Block
	// Open opens what is to be copied, as it is at this moment.
	Open func() (*backend.Source, error)
	// Key is of the snapshot or volume that the copy becomes: backend.SnapshotKey and VolumeKey.
	Key string
	// Pause is how long a volume in use may stand still; 0 is PauseLimit.
	Pause time.Duration
	// OnProgress is told how much is there, in bytes of how many.
	OnProgress func(done, size int64)
}

// Finish gives a copy, which has the content that its source had at this moment, its record and
// its name.
type Finish func(made *backend.Copy, of *backend.Source, at time.Time) error

// Copy makes a copy and has it finished. It can be cut off anywhere, and repeated: what nobody
// wrote to meanwhile is gone on with.
func (c Copier) Copy(ctx context.Context, o Request, finish Finish) error {
	for n := 1; ; n++ {
		err := c.once(ctx, o, finish)
		if !errors.Is(err, ErrMoving) || n == attempts {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-time.After(time.Duration(n) * 50 * time.Millisecond):
		}
	}
}

func (c Copier) once(ctx context.Context, o Request, finish Finish) error {
	source, err := o.Open()
	if err != nil {
		return err
	}
	defer source.Close()
	switch {
	case !source.Held:
		return c.copyStill(ctx, o, source, finish, func() error { return untaken(source) })
	case source.Shared:
		return fmt.Errorf("%w: %s", ErrShared, source.Key)
	}
	p, err := begin(ctx, o, source)
	if err != nil {
		return err
	}
	defer p.end()
	return c.copyStill(p.still, o, source, finish, func() error { return p.confirm(ctx) })
}

// untaken is an error when somebody has taken a volume while it was copied.
func untaken(s *backend.Source) error {
	is, err := s.Unchanged()
	if err == nil && !is {
		err = fmt.Errorf("%w: a node has taken %s", ErrMoving, s.Key)
	}
	return err
}

// copyStill copies what nobody writes to now, as still says in the end.
func (c Copier) copyStill(ctx context.Context, o Request, s *backend.Source, finish Finish, still func() error) (err error) {
	at := time.Now()
	made, err := c.fill(ctx, o, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, made.Close()) }()
	if err := still(); err != nil {
		return errors.Join(err, made.Discard())
	}
	err = finish(made, s, at)
	if errors.Is(err, backend.ErrExists) {
		err = errors.Join(err, made.Discard()) // nobody needs it
	}
	return err
}

// fill gives a copy that has the whole content.
func (c Copier) fill(ctx context.Context, o Request, s *backend.Source) (*backend.Copy, error) {
	if made, err := c.share(ctx, o, s); made != nil || err != nil {
		return made, err
	}
	made, err := o.Blocks.BeginCopy(o.Key, 0, s)
	if err != nil {
		return nil, err
	}
	limit, cancel := ctx, func() {}
	if s.Held {
		limit, cancel = context.WithTimeoutCause(ctx, o.pause(), fmt.Errorf("%w (%s); delete its pods, use bricks with XFS, or set pauseLimit", ErrPause, o.pause()))
	}
	defer cancel()
	begun, said, before := time.Now(), time.Now(), made.Done
	err = made.Fill(limit, func(done int64) {
		if o.OnProgress != nil {
			o.OnProgress(done, s.Size)
		}
		if time.Since(said) > sayEvery {
			said = time.Now()
			c.Log.Info("copying", "pool", o.Pool.Pool, "from", s.Key, "to", o.Key, "bytes", done, "of", s.Size)
		}
	})
	if err == nil {
		c.Log.Info("copied", "pool", o.Pool.Pool, "from", s.Key, "to", o.Key, "bytes", s.Size-before, "took", time.Since(begun).String())
		return made, nil
	}
	if limit.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(limit), err)
	}
	if s.Held { // nothing of it can be used
		err = errors.Join(err, made.Discard())
	}
	return nil, errors.Join(err, made.Close())
}

func (o Request) pause() time.Duration {
	if o.Pause > 0 {
		return o.Pause
	}
	return PauseLimit
}
