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

// Archived is a deleted volume whose data was archived.
type Archived struct {
	Place   string `json:"place"` // its file name in the archive
	Name    string `json:"name"`
	Request string `json:"request,omitempty"`
	Size    int64  `json:"sizeBytes,omitempty"`
}

// splitPlace returns the volume's name of a file name in the archive, which ends with the time
// of the deletion.
func splitPlace(place string) (name string, err error) {
	name, _, dated := strings.Cut(place, ".")
	if !dated || name == "" || strings.Contains(place, "/") {
		return "", fmt.Errorf("%w: %q is not a name in the archive", ErrNotFound, place)
	}
	return name, nil
}

// trashDirs returns the directories of a layout for deleted volumes.
func trashDirs(layout schema.Layout) (trashed, archived string) {
	if layout == schema.Block {
		return blockTrash, blockArchive
	}
	return trash, archive
}

// ListArchived returns the archived volumes of a layout, sorted by place.
func ListArchived(ctx context.Context, root *safepath.Dir, layout schema.Layout) ([]Archived, error) {
	_, archive := trashDirs(layout)
	places, err := listNames(root, archive)
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
			continue // created by something else
		}
		a := Archived{Place: place, Name: name}
		d, err := root.OpenPath(archive + "/" + place)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", place, err)
		}
		if r, err := read(d); err == nil { // the data of a whole pool has no record
			a.Request, a.Size = r.Request, r.Size
		}
		d.Close()
		all = append(all, a)
	}
	return all, nil
}

// Restore restores an archived volume under its name, which must be free.
func (s Subdirectory) Restore(place string) (Volume, error) {
	return restore(s.Root, archive, place, s.Place)
}

// Restore restores an archived volume under its name, which must be free.
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
		return Volume{}, fmt.Errorf("%s: %w; it is not a single volume", place, err)
	}
	if existing, err := root.OpenPath(at(name)); err == nil {
		existing.Close()
		return Volume{}, fmt.Errorf("%w: %s; archive or delete that volume first", ErrExists, name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Volume{}, err
	}
	if err := root.MkdirAll(path.Dir(at(name)), parentMode); err != nil {
		return Volume{}, err
	}
	if err := r.rewrite(d); err != nil { // sets may have been added since it was archived
		return Volume{}, err
	}
	return r.volume(name), root.Rename(archive+"/"+place, at(name))
}

// Purge moves an archived volume to the trash: its data is lost at the next Sweep.
func Purge(root *safepath.Dir, layout schema.Layout, place string) error {
	trash, archive := trashDirs(layout)
	if _, err := splitPlace(place); err != nil {
		return err
	}
	if err := root.MkdirAll(trash, privateMode); err != nil {
		return err
	}
	err := root.Rename(archive+"/"+place, trash+"/"+place)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s is not in the archive", ErrNotFound, place)
	}
	return err
}
