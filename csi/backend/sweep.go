package backend

import (
	"context"
	"errors"
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
	trash := trash
	if layout == schema.Block {
		trash = blockTrash
	}
	names, err := listed(root, trash)
	if err != nil {
		return err
	}
	for _, name := range names {
		removed, said := 0, time.Now()
		err := root.RemoveAll(ctx, trash+"/"+name, func() {
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
