// Package agent is the process beside a brick that enforces the sizes of its volumes and
// reports the brick's state. Everything it does is derived from the records on the brick's
// volumes: a request only makes it happen sooner.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/brick/quota"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/linux/prjquota"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Brick is the brick that an agent serves.
type Brick struct {
	Namespace, Pool, Position string
	Directory                 string
	// Parts is how many bricks share a volume's data: the number of data bricks of a set
	// for Disperse, 1 for every other type.
	Parts int64
	// Advisory sets no limits, although the file system supports them: in an Arbiter pool
	// a full brick returns errors at random.
	Advisory bool
	// Port on this host where glusterfsd serves the brick.
	Port int
}

// Every is how often limits are derived again: the longest time until a volume that is
// healed onto this brick has its limit.
const Every = 20 * time.Second

// Agent is the agent of one brick.
type Agent struct {
	Brick
	Log logr.Logger

	quota  *quota.Brick // nil where sizes are advisory
	probes *probes

	mu      sync.Mutex
	volumes []volumeUsage // as of the last derivation
	derived time.Time
	drift   int // limits that the last derivation had to set
	// promised is the result of the last count, nil before the first and after a failed one.
	promised *agent.Promised
}

// volumeUsage is what one volume uses on the brick, in bytes.
type volumeUsage struct {
	name        string
	used, limit uint64
}

// New opens the brick. On a file system without project quotas sizes are advisory, which
// the agent reports; that is not an error. Close it.
func New(b Brick, log logr.Logger) (*Agent, error) {
	a := &Agent{
		Brick: b, Log: log.WithValues("pool", b.Pool, "brick", b.Position),
		probes: newProbes(keepLeast, keepOnline, keepFactor),
	}
	if b.Parts < 1 {
		return nil, fmt.Errorf("start agent: a volume's data cannot be shared by %d bricks; at least 1 is needed",
			b.Parts)
	}
	if b.Advisory {
		a.Log.Info("sizes of volumes are advisory in this pool")
		return a, nil
	}
	q, err := quota.Open(b.Directory)
	switch {
	case errors.Is(err, prjquota.ErrUnsupported):
		a.Log.Info("sizes of volumes are advisory on this brick", "reason", err.Error())
	case err != nil:
		return nil, err
	}
	a.quota = q
	return a, nil
}

// Close closes the brick. Limits stay.
func (a *Agent) Close() {
	if a.quota != nil {
		a.quota.Close()
	}
}

// brickShare is how much a volume of this size may use on the brick, in bytes.
func (a *Agent) brickShare(size int64) uint64 { return uint64((size + a.Parts - 1) / a.Parts) }

// Run derives limits until the context ends.
func (a *Agent) Run(ctx context.Context) error {
	return repeat(ctx, Every, func() {
		if err := a.Derive(ctx); err != nil && ctx.Err() == nil {
			a.Log.Error(err, "enforcing the sizes of volumes")
		}
	})
}

// repeat runs work at once and then after every pause, until the context ends.
func repeat(ctx context.Context, pause time.Duration, work func()) error {
	for {
		work()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// Derive enforces the size in the record of every volume on the brick. An error of one
// volume does not stop the others.
func (a *Agent) Derive(ctx context.Context) error {
	if a.quota == nil {
		return nil
	}
	root, err := safepath.Open(a.Directory)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	var all []volumeUsage
	var errs []error
	set := 0
	err = eachVolumeDir(ctx, root, func(folder, name string, d *safepath.Dir) {
		u, changed, err := a.enforce(ctx, folder, d)
		if errors.Is(err, errNotVolume) {
			return
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", name, err))
			return
		}
		if changed {
			set++
		}
		all = append(all, volumeUsage{name, u.Bytes, u.Limit})
	})
	if set > 0 {
		a.Log.Info("set the limits of volumes to the sizes in their records", "volumes", set)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.volumes, a.drift, a.derived = all, set, time.Now()
	return errors.Join(append(errs, err)...)
}

// errNotVolume says that a directory has no readable record.
var errNotVolume = errors.New("the directory is not a volume")

// enforce sets a volume's limit where it differs from its size. The limit is read before
// the record: expanding a volume changes its record first, so that a limit which a request
// has just set is never reverted.
func (a *Agent) enforce(
	ctx context.Context, folder string, d *safepath.Dir,
) (u prjquota.Usage, changed bool, err error) {
	u, err = a.quota.Usage(folder)
	size, isVolume := sizeOf(&d.Entry)
	if !isVolume {
		return u, false, errNotVolume
	}
	want := a.brickShare(size)
	if err == nil && quotaBlocks(u.Limit) == quotaBlocks(want) {
		complete, err := a.quota.Complete(folder)
		if complete || err != nil {
			return u, false, err
		}
	}
	if err != nil && !errors.Is(err, prjquota.ErrNone) {
		return u, false, err
	}
	if want == 0 {
		return u, false, nil // a volume without a size has no limit
	}
	if err := a.quota.Limit(ctx, folder, want); err != nil {
		return u, false, err
	}
	u, err = a.quota.Usage(folder)
	return u, true, err
}

// sizeOf reads the size in the record of a file or directory, if it has a readable one.
func sizeOf(e *safepath.Entry) (int64, bool) {
	text, err := e.Attribute(ondisk.Attribute)
	if err != nil {
		return 0, false
	}
	r, err := ondisk.Decode(text)
	return r.Size, err == nil
}

// quotaBlocks rounds up to the unit of quota limits: blocks of 512 bytes.
func quotaBlocks(bytes uint64) uint64 { return (bytes + 511) / 512 }

// eachVolumeDir calls f for each directory of the brick that may be a subdirectory volume.
func eachVolumeDir(ctx context.Context, root *safepath.Dir, f func(folder, name string, d *safepath.Dir)) error {
	return walkTwoLevels(ctx, root, ondisk.Subdirectories, func(folder, name string, parent *safepath.Dir) {
		d, err := parent.Dir(name)
		if err != nil {
			return // not a directory, or deleted meanwhile
		}
		defer d.Close()
		f(folder, name, d)
	})
}

// walkTwoLevels calls f for every entry two levels below a directory of the brick.
func walkTwoLevels(
	ctx context.Context, root *safepath.Dir, folder string, f func(path, name string, parent *safepath.Dir),
) error {
	var walk func(d *safepath.Dir, at string, depth int) error
	walk = func(d *safepath.Dir, at string, depth int) error {
		names, err := d.Names()
		if err != nil {
			return fmt.Errorf("list %s: %w", at, err)
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			path := at + "/" + name
			if depth == 0 {
				f(path, name, d)
				continue
			}
			below, err := d.Dir(name)
			if err != nil {
				continue // not a directory, or deleted meanwhile
			}
			err = walk(below, path, depth-1)
			below.Close()
			if err != nil {
				return err
			}
		}
		return nil
	}
	top, err := root.Dir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer top.Close()
	return walk(top, folder, 2)
}
