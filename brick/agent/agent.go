// Package agent is the process beside a brick that holds its volumes to their sizes and
// tells how the brick is. It derives all that it does from the records that are on the
// brick's volumes: a request only makes it sooner.
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

// Brick is the brick that an agent is for.
type Brick struct {
	Namespace, Pool, Position string
	Directory                 string
	// Parts is how many bricks share a volume's data: 1 but for Disperse, where it is
	// the number of data bricks of a set.
	Parts int64
	// Advisory leaves volumes without limits, though the file system has them: in an
	// Arbiter pool a full brick gives errors at random.
	Advisory bool
	// Port on this host where glusterfsd serves the brick.
	Port int
}

// Every is how often limits are derived anew: a volume that is healed onto this brick
// gets its own that soon.
const Every = 20 * time.Second

// Agent is one brick's.
type Agent struct {
	Brick
	Log logr.Logger

	quota *quota.Brick // nil where sizes are advisory

	mu      sync.Mutex
	volumes []usage // as of the last derivation
	derived time.Time
	drift   int // limits that the last derivation had to set
	// promised is as of the last count, nil when that failed or there was none yet.
	promised *agent.Promised
}

// usage is what one volume has on the brick, in bytes.
type usage struct {
	name        string
	used, limit uint64
}

// New looks at the brick. A file system without project quotas is no error: sizes are
// advisory then, and the agent says so. Close it.
func New(b Brick, log logr.Logger) (*Agent, error) {
	a := &Agent{Brick: b, Log: log.WithValues("pool", b.Pool, "brick", b.Position)}
	if b.Parts < 1 {
		return nil, fmt.Errorf("a volume's data is shared by %d bricks; at least 1 is needed", b.Parts)
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

// part is what a volume of this size may have on the brick, in bytes.
func (a *Agent) part(size int64) uint64 { return uint64((size + a.Parts - 1) / a.Parts) }

// Run derives limits until the context ends.
func (a *Agent) Run(ctx context.Context) error {
	return repeat(ctx, Every, func() {
		if err := a.Derive(ctx); err != nil && ctx.Err() == nil {
			a.Log.Error(err, "holding volumes to their sizes")
		}
	})
}

// repeat works at once and then again and again, with a pause, until the context ends.
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

// Derive holds every volume on the brick to the size in its record. What is wrong with
// one does not keep it from the others.
func (a *Agent) Derive(ctx context.Context) error {
	if a.quota == nil {
		return nil
	}
	root, err := safepath.Open(a.Directory)
	if err != nil {
		return fmt.Errorf("opening the brick: %w", err)
	}
	defer root.Close()
	var all []usage
	var errs []error
	set := 0
	err = eachFolder(ctx, root, func(folder, name string, d *safepath.Dir) {
		u, changed, err := a.hold(ctx, folder, d)
		if errors.Is(err, errNoVolume) {
			return
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %s: %w", name, err))
			return
		}
		if changed {
			set++
		}
		all = append(all, usage{name, u.Bytes, u.Limit})
	})
	if set > 0 {
		a.Log.Info("held volumes to the sizes in their records", "volumes", set)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.volumes, a.drift, a.derived = all, set, time.Now()
	return errors.Join(append(errs, err)...)
}

// errNoVolume says that a folder has no record that can be read.
var errNoVolume = errors.New("the folder is no volume")

// hold sets a volume's limit where it differs from its size. The limit is read before
// the record: a volume that is growing has its record changed first, so that what a
// request has just set is never taken back.
func (a *Agent) hold(ctx context.Context, folder string, d *safepath.Dir) (u prjquota.Usage, changed bool, err error) {
	u, err = a.quota.Usage(folder)
	size, isVolume := sizeOf(&d.Entry)
	if !isVolume {
		return u, false, errNoVolume
	}
	want := a.part(size)
	if err == nil && blocks(u.Limit) == blocks(want) {
		complete, err := a.quota.Complete(folder)
		if complete || err != nil {
			return u, false, err
		}
	}
	if err != nil && !errors.Is(err, prjquota.ErrNone) {
		return u, false, err
	}
	if want == 0 {
		return u, false, nil // a volume that has no size has no limit
	}
	if err := a.quota.Limit(ctx, folder, want); err != nil {
		return u, false, err
	}
	u, err = a.quota.Usage(folder)
	return u, true, err
}

// sizeOf reads the size in the record of a file or folder, if it has one that can be read.
func sizeOf(e *safepath.Entry) (int64, bool) {
	text, err := e.Attribute(ondisk.Attribute)
	if err != nil {
		return 0, false
	}
	r, err := ondisk.Decode(text)
	return r.Size, err == nil
}

// blocks is how a file system counts: limits are whole ones, 512 bytes each.
func blocks(bytes uint64) uint64 { return (bytes + 511) / 512 }

// eachFolder calls f for all folders of the brick where volumes are.
func eachFolder(ctx context.Context, root *safepath.Dir, f func(folder, name string, d *safepath.Dir)) error {
	return eachBelow(ctx, root, ondisk.Folder, func(folder, name string, parent *safepath.Dir) {
		d, err := parent.Dir(name)
		if err != nil {
			return // no folder, or it has gone
		}
		defer d.Close()
		f(folder, name, d)
	})
}

// eachBelow calls f for all that is two levels below a folder of the brick.
func eachBelow(ctx context.Context, root *safepath.Dir, folder string, f func(path, name string, parent *safepath.Dir)) error {
	var walk func(d *safepath.Dir, at string, depth int) error
	walk = func(d *safepath.Dir, at string, depth int) error {
		names, err := d.Names()
		if err != nil {
			return fmt.Errorf("listing %s: %w", at, err)
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
				continue // no folder, or it has gone
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
