package agent

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

const (
	// countLimit is how long reading the records of a brick may take.
	countLimit = 5 * time.Minute
	// countShare bounds what it takes of the brick's time: it rests so many times longer
	// than it has read, and no less than Every.
	countShare = 20
	// pointerMode is of files that only say where another is (GlusterFS, DHT_LINKFILE_MODE).
	// One that is moved to another set has linkAttribute too, and its own mode.
	pointerMode = unix.S_ISVTX
)

// Count reads what is promised until the context ends. Who asks is told of the last count.
func (a *Agent) Count(ctx context.Context) error {
	for {
		begin := time.Now()
		p, err := a.count(ctx)
		if err != nil && ctx.Err() == nil {
			a.Log.Error(err, "adding up the sizes of volumes")
		}
		a.mu.Lock()
		a.promised = p
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(Every, countShare*time.Since(begin))):
		}
	}
}

// hasPromised is the last count; nil when there is none.
func (a *Agent) hasPromised() *agent.Promised {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.promised
}

// count adds up the sizes of all volumes on the brick. What has no record that can be read
// is none.
func (a *Agent) count(ctx context.Context) (*agent.Promised, error) {
	ctx, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	root, err := safepath.Open(a.Directory)
	if err != nil {
		return nil, fmt.Errorf("opening the brick: %w", err)
	}
	defer root.Close()
	var p agent.Promised
	p.Folders, _ = sizeOf(&root.Entry) // of a pool that is one volume, the record is here
	err = eachVolumeDir(ctx, root, func(_, _ string, d *safepath.Dir) {
		size, _ := sizeOf(&d.Entry)
		p.Folders += size
	})
	if err != nil {
		return nil, err
	}
	for folder, size := range map[string]func(*safepath.Entry) int64{ondisk.BlockVolumes: recorded, ondisk.Snapshots: usedBy} {
		err = walkTwoLevels(ctx, root, folder, func(_, name string, parent *safepath.Dir) {
			e, err := parent.OpenPath(name)
			if err != nil {
				return // it has gone
			}
			defer e.Close()
			if !isPointer(e) {
				p.Blocks += size(e)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return &p, nil
}

// recorded is the size of a volume, 0 of what is none.
func recorded(e *safepath.Entry) int64 {
	size, _ := sizeOf(e)
	return size
}

// usedBy is what a snapshot is counted with, in bytes.
func usedBy(e *safepath.Entry) int64 {
	text, err := e.Attribute(ondisk.SnapshotAttribute)
	if err != nil {
		return 0
	}
	s, err := ondisk.DecodeSnapshot(text)
	if err != nil {
		return 0
	}
	return s.Used
}

// isPointer tells whether a file is another set's: a pointer to it, or a copy that is not
// complete.
func isPointer(e *safepath.Entry) bool {
	mode, err := e.Permissions()
	if err != nil || mode != pointerMode {
		return false
	}
	_, err = e.Attribute(linkAttribute)
	return err == nil
}
