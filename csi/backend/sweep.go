package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/linux/beneath"
	"github.com/atoll-storage/atoll/schema"
)

// reportEvery is how often a long removal says how far it is.
const reportEvery = 10 * time.Second

// Sweep removes what is in the trash of a layout. It can be cut off, and goes on when it
// is called again.
func Sweep(ctx context.Context, root *beneath.Dir, layout schema.Layout, log logr.Logger) error {
	trash, _ := asideOf(layout)
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

// looks is how often what was removed may be found again: once for each folder in another
// that has something on one brick alone.
const looks = 100

// remove removes a folder, and looks whether it has gone from all bricks. One may have an
// entry of which the others have never heard: its writer lost power between them. Listings do
// not show that, and the folder goes from the others alone, without a mark that it is to be
// healed. Who then asks for it by its name has it brought back to all of them.
func remove(ctx context.Context, root *beneath.Dir, name string, removed func()) error {
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
func listed(root *beneath.Dir, folder string) ([]string, error) {
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
