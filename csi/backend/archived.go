package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema"
)

// Archived is a deleted volume whose data is kept.
type Archived struct {
	Place   string `json:"place"` // its name in the archive
	Name    string `json:"name"`
	Request string `json:"request,omitempty"`
	Size    int64  `json:"sizeBytes,omitempty"`
}

// splitPlace cuts a name in the archive into the volume's name and the time of
// its deletion.
func splitPlace(place string) (name string, err error) {
	name, _, dated := strings.Cut(place, ".")
	if !dated || name == "" || strings.Contains(place, "/") {
		return "", fmt.Errorf("%w: %q is no place in the archive", ErrNotFound, place)
	}
	return name, nil
}

// trashDirs gives the folders of a layout to which deleted volumes go.
func trashDirs(layout schema.Layout) (trashed, archived string) {
	if layout == schema.Block {
		return blockTrash, blockArchive
	}
	return trash, archive
}

// Archive lists the deleted volumes of a layout that are kept in a pool, by place.
func Archive(ctx context.Context, root *safepath.Dir, layout schema.Layout) ([]Archived, error) {
	_, archive := trashDirs(layout)
	places, err := listed(root, archive)
	if err != nil {
		return nil, err
	}
	slices.Sort(places)
	var all []Archived
	for _, place := range places {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name, err := splitPlace(place)
		if err != nil {
			continue // not ours
		}
		a := Archived{Place: place, Name: name}
		d, err := root.OpenPath(archive + "/" + place)
		if err != nil {
			return nil, fmt.Errorf("opening %s: %w", place, err)
		}
		if r, err := read(d); err == nil { // a whole pool's data has none
			a.Request, a.Size = r.Request, r.Size
		}
		d.Close()
		all = append(all, a)
	}
	return all, nil
}

// Restore brings a deleted volume back under its name, which must be free.
func (s Subdirectory) Restore(place string) (Volume, error) {
	return restore(s.Root, archive, place, s.Folder)
}

// Restore brings a deleted volume back under its name, which must be free.
func (b Block) Restore(place string) (Volume, error) {
	return restore(b.Root, blockArchive, place, b.Place)
}

func restore(root *safepath.Dir, archive, place string, at func(name string) string) (Volume, error) {
	name, err := splitPlace(place)
	if err != nil {
		return Volume{}, err
	}
	d, err := root.OpenPath(archive + "/" + place)
	if errors.Is(err, fs.ErrNotExist) {
		return Volume{}, fmt.Errorf("%w: %s is not in the archive", ErrNotFound, place)
	}
	if err != nil {
		return Volume{}, err
	}
	defer d.Close()
	r, err := read(d)
	if err != nil {
		return Volume{}, fmt.Errorf("%s: %w; it is not one volume", place, err)
	}
	if taken, err := root.OpenPath(at(name)); err == nil {
		taken.Close()
		return Volume{}, fmt.Errorf("%w: %s; archive or delete that one first", ErrExists, name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Volume{}, err
	}
	if err := root.MkdirAll(path.Dir(at(name)), hashedMode); err != nil {
		return Volume{}, err
	}
	if err := r.rewrite(d); err != nil { // sets may have been added since
		return Volume{}, err
	}
	return r.volume(name), root.Rename(archive+"/"+place, at(name))
}

// Purge gives an archived volume to the trash: its data is lost when that is swept.
func Purge(root *safepath.Dir, layout schema.Layout, place string) error {
	trash, archive := trashDirs(layout)
	if _, err := splitPlace(place); err != nil {
		return err
	}
	if err := root.MkdirAll(trash, ownMode); err != nil {
		return err
	}
	err := root.Rename(archive+"/"+place, trash+"/"+place)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is not in the archive", ErrNotFound, place)
	}
	return err
}
