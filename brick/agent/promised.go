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
	// countIdleRatio bounds the load on the brick: the pause after a count is so many times
	// as long as the count, and at least Every.
	countIdleRatio = 20
	// linkMode is of files that only say where another is (GlusterFS, DHT_LINKFILE_MODE).
	// One that is moved to another set has ondisk.LinkAttribute too, and its own mode.
	linkMode = unix.S_ISVTX
)

// Count adds up the provisioned sizes again and again until the context ends. Status
// reports the result of the last count.
func (a *Agent) Count(ctx context.Context) error {
	for {
		begin := time.Now()
		p, err := a.countPromised(ctx)
		if err != nil && ctx.Err() == nil {
			a.Log.Error(err, "counting the provisioned sizes of volumes")
		}
		a.mu.Lock()
		a.promised = p
		a.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(Every, countIdleRatio*time.Since(begin))):
		}
	}
}

// lastPromised is the result of the last count; nil if there is none.
func (a *Agent) lastPromised() *agent.Promised {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.promised
}

// countPromised adds up the sizes of all volumes on the brick. An entry without a readable
// record is not a volume.
func (a *Agent) countPromised(ctx context.Context) (*agent.Promised, error) {
	ctx, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	root, err := safepath.Open(a.Directory)
	if err != nil {
		return nil, fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	var p agent.Promised
	p.Folders, _ = sizeOf(&root.Entry) // a pool that is one volume has its record here
	err = eachVolumeDir(ctx, root, func(_, _ string, d *safepath.Dir) {
		size, _ := sizeOf(&d.Entry)
		p.Folders += size
	})
	if err != nil {
		return nil, err
	}
	for folder, size := range map[string]func(*safepath.Entry) int64{
		ondisk.BlockVolumes: volumeSize,
		ondisk.Snapshots:    snapshotSize,
	} {
		err = walkTwoLevels(ctx, root, folder, func(_, name string, parent *safepath.Dir) {
			e, err := parent.OpenPath(name)
			if err != nil {
				return // deleted meanwhile
			}
			defer e.Close()
			if !isLinkFile(e) {
				p.Blocks += size(e)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return &p, nil
}

// volumeSize is the size of a volume, 0 for an entry that is not a volume.
func volumeSize(e *safepath.Entry) int64 {
	size, _ := sizeOf(e)
	return size
}

// snapshotSize is the size with which a snapshot is counted, in bytes.
func snapshotSize(e *safepath.Entry) int64 {
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

// isLinkFile reports whether a file belongs to another set: a link to it, or a copy that is
// not complete.
func isLinkFile(e *safepath.Entry) bool {
	mode, err := e.Permissions()
	if err != nil || mode != linkMode {
		return false
	}
	_, err = e.Attribute(ondisk.LinkAttribute)
	return err == nil
}
