package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// reportEvery is how often a long removal logs its progress.
const reportEvery = 10 * time.Second

// Sweep removes what is in the trash of a layout. It may be interrupted and continued by
// another call.
func Sweep(ctx context.Context, root *safepath.Dir, layout schema.Layout, log logr.Logger) error {
	trash, _ := trashDirs(layout)
	names, err := listNames(root, trash)
	if err != nil {
		return err
	}
	for _, name := range names {
		removed, reported := 0, time.Now()
		err := removeAll(ctx, root, trash+"/"+name, func() {
			removed++
			if time.Since(reported) > reportEvery {
				reported = time.Now()
				log.Info("removing a deleted volume", "volume", name, "entries", removed)
			}
		})
		if err != nil {
			return err
		}
		log.Info("removed a deleted volume", "volume", name, "entries", removed)
	}
	return nil
}

// An interrupted copy, or a freeze request, that was not changed for this long is abandoned.
// Controllers change their freeze requests several times a second.
const (
	copyMaxAge    = 24 * time.Hour
	requestMaxAge = 10 * time.Minute
)

// SweepLeftovers removes abandoned copies and freeze requests: old ones, and copies whose source
// no longer exists.
func (b Block) SweepLeftovers(log logr.Logger) error {
	requests, err := b.FreezeRequests()
	if err != nil {
		return err
	}
	var errs []error
	for id := range requests {
		errs = append(errs, b.sweepOld(ondisk.FreezeRequests+"/"+id, requestMaxAge))
	}
	names, err := listNames(b.Root, ondisk.Copies)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, name := range names {
		if err := b.sweepCopy(ondisk.Copies + "/" + name); err != nil && !errors.Is(err, ErrCopying) {
			log.Info("could not remove an interrupted copy", "copy", name, "error", err.Error())
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweepOld removes a file that was not changed for maxAge.
func (b Block) sweepOld(place string, maxAge time.Duration) error {
	e, err := b.Root.OpenPath(place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.Close()
	st, err := stat(e.File())
	if err != nil || b.Now.now().Sub(time.Unix(st.Ctim.Unix())) < maxAge {
		return err
	}
	return b.Root.Unlink(place)
}

// sweepCopy removes a copy that no call works on, if it is old or its source no longer exists.
func (b Block) sweepCopy(place string) error {
	f, err := b.Root.OpenRDWR(place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrLocked) {
		return ErrCopying
	} else if err != nil {
		return err
	}
	if same, err := b.isAt(f, place); err != nil || !same {
		return err // it has become a volume or a snapshot
	}
	if text, err := safepath.FromFile(f).Attribute(ondisk.CopyAttribute); err == nil {
		if note, err := ondisk.DecodeCopy(text); err == nil {
			if _, err := b.Root.Mode(note.From); errors.Is(err, fs.ErrNotExist) {
				return b.Root.Unlink(place)
			}
		}
	}
	return b.sweepOld(place, copyMaxAge)
}

// removeTries is how often a removed directory may reappear: once for each nested directory
// that has an entry on one brick only.
const removeTries = 100

// removeAll removes a file or directory and checks that all bricks have removed it. A brick may
// have an entry that the others lack, because its writer lost power between them. Listings do
// not show such an entry, and the directory is removed from the others only, without a pending
// heal. A lookup by name then restores it on all bricks.
func removeAll(ctx context.Context, root *safepath.Dir, name string, removed func()) error {
	for range removeTries {
		if err := root.RemoveAll(ctx, name, removed); err != nil {
			return err
		}
		if _, err := root.Mode(name); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return fmt.Errorf("remove %s: it reappeared %d times", name, removeTries)
}

// listNames returns the names in a directory; none if it does not exist.
func listNames(root *safepath.Dir, dir string) ([]string, error) {
	d, err := root.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Names()
}
