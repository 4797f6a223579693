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

// reportEvery is how often a long removal says how far it is.
const reportEvery = 10 * time.Second

// Sweep removes what is in the trash of a layout. It can be cut off, and goes on when it
// is called again.
func Sweep(ctx context.Context, root *safepath.Dir, layout schema.Layout, log logr.Logger) error {
	trash, _ := trashDirs(layout)
	names, err := listed(root, trash)
	if err != nil {
		return err
	}
	for _, name := range names {
		removed, said := 0, time.Now()
		err := remove(ctx, root, trash+"/"+name, func() {
			removed++
			if time.Since(said) > reportEvery {
				said = time.Now()
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

// What nobody has worked on for so long was cut off and is not gone on with: copies, and
// questions to nodes, which are repeated several times a second.
const (
	copyLeft = 24 * time.Hour
	askLeft  = 10 * time.Minute
)

// SweepLeft removes copies and questions that were left over: old ones, and copies whose
// source has gone.
func (b Block) SweepLeft(log logr.Logger) error {
	asks, err := b.FreezeRequests()
	if err != nil {
		return err
	}
	var errs []error
	for ask := range asks {
		errs = append(errs, b.sweepOld(ondisk.FreezeRequests+"/"+ask, askLeft))
	}
	names, err := listed(b.Root, ondisk.Copies)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, name := range names {
		if err := b.sweepCopy(ondisk.Copies + "/" + name); err != nil && !errors.Is(err, ErrCopying) {
			log.Info("a copy that was cut off stays", "copy", name, "error", err.Error())
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// sweepOld removes a file that was not changed for so long.
func (b Block) sweepOld(place string, left time.Duration) error {
	e, err := b.Root.OpenPath(place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.Close()
	st, err := stat(e.File())
	if err != nil || b.Now.now().Sub(time.Unix(st.Ctim.Unix())) < left {
		return err
	}
	return b.Root.Unlink(place)
}

// sweepCopy removes a copy that nobody works on, if it is old or of nothing any more.
func (b Block) sweepCopy(place string) error {
	f, err := b.Root.OpenRDWR(place)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrHeld) {
		return ErrCopying
	} else if err != nil {
		return err
	}
	if is, err := b.isAt(f, place); err != nil || !is {
		return err // it has become a volume or a snapshot
	}
	if text, err := safepath.Of(f).Attribute(ondisk.CopyAttribute); err == nil {
		if note, err := ondisk.DecodeCopy(text); err == nil {
			if _, err := b.Root.Mode(note.From); errors.Is(err, fs.ErrNotExist) {
				return b.Root.Unlink(place)
			}
		}
	}
	return b.sweepOld(place, copyLeft)
}

// looks is how often what was removed may be found again: once for each folder in another
// that has something on one brick alone.
const looks = 100

// remove removes a folder, and looks whether it has gone from all bricks. One may have an
// entry of which the others have never heard: its writer lost power between them. Listings do
// not show that, and the folder goes from the others alone, without a mark that it is to be
// healed. Who then asks for it by its name has it brought back to all of them.
func remove(ctx context.Context, root *safepath.Dir, name string, removed func()) error {
	for range looks {
		if err := root.RemoveAll(ctx, name, removed); err != nil {
			return err
		}
		if _, err := root.Mode(name); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is there again whenever it is removed", name)
}

// listed gives the names in a folder, none where it is not there.
func listed(root *safepath.Dir, folder string) ([]string, error) {
	d, err := root.Dir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Names()
}
