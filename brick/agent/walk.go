package agent

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
)

const (
	// walkEntries is how many entries of a directory are read at once.
	walkEntries = 256
	// walkOpen is how many directories a walk keeps open, one below the other. A tenant chooses
	// how deep a tree is; the open files of a process are limited.
	walkOpen = 32
)

// walk calls visit for everything below a directory of the brick, in no order, or with the error
// of a directory that cannot be read. fs.SkipDir leaves a directory out, other errors end the
// walk. Unlike fs.WalkDir it holds no whole directory in memory, only the names of subdirectories
// that are deeper than walkOpen.
func walk(root *os.Root, at string, visit func(path string, d fs.DirEntry, err error) error) error {
	return walkBelow(root, at, walkOpen, visit)
}

func walkBelow(root *os.Root, at string, open int, visit func(path string, d fs.DirEntry, err error) error) error {
	f, err := root.Open(at)
	if err != nil {
		return visit(at, nil, err)
	}
	defer f.Close()
	var later []string
	for {
		entries, err := f.ReadDir(walkEntries)
		for _, e := range entries {
			below := path.Join(at, e.Name())
			err := visit(below, e, nil)
			switch {
			case errors.Is(err, fs.SkipDir):
			case err != nil:
				return err
			case e.IsDir() && open == 0:
				later = append(later, below)
			case e.IsDir():
				if err := walkBelow(root, below, open-1, visit); err != nil {
					return err
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return visit(at, nil, err)
		}
	}
	f.Close()
	for _, below := range later {
		if err := walkBelow(root, below, 0, visit); err != nil {
			return err
		}
	}
	return nil
}
