package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Write writes a pool's entry into the catalog: the files of its ConfigMap. The pool's name is a
// link to a directory with these files, and is replaced atomically. Write reports whether
// anything changed.
func (f Folder) Write(name string, data map[string]string) (changed bool, err error) {
	if !volumeid.IsPart(name) {
		return false, fmt.Errorf("%w: %q is not a pool's name", ErrNoPool, name)
	}
	if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return false, err
	}
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return false, err
	}
	defer root.Close()
	version := versionOf(name, data)
	before, err := root.Readlink(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read pool %s in the catalog: %w", name, err)
	}
	if before == version {
		return false, nil
	}
	if err := fill(root, version, data); err != nil {
		return false, fmt.Errorf("write pool %s into the catalog: %w", name, err)
	}
	pending := version + ".link"
	if err := root.Remove(pending); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if err := root.Symlink(version, pending); err != nil {
		return false, err
	}
	if err := root.Rename(pending, name); err != nil {
		return false, err
	}
	return true, f.clean(root, name, version, before) // processes that read the previous version can finish
}

// versionOf returns the name of the directory with a pool's files.
func versionOf(name string, data map[string]string) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(data)) {
		fmt.Fprintf(h, "%q %q\n", key, data[key])
	}
	return "." + name + "." + hex.EncodeToString(h.Sum(nil)[:8])
}

func fill(root *os.Root, dir string, data map[string]string) error {
	if err := root.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for key, text := range data {
		if err := root.WriteFile(dir+"/"+key, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Remove removes a pool. It is no error if the pool does not exist.
func (f Folder) Remove(name string) error {
	if !volumeid.IsPart(name) {
		return fmt.Errorf("%w: %q is not a pool's name", ErrNoPool, name)
	}
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove pool %s from the catalog: %w", name, err)
	}
	return f.clean(root, name)
}

// clean removes the versions of a pool that are not in keep.
func (f Folder) clean(root *os.Root, name string, keep ...string) error {
	all, err := os.ReadDir(f.Dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if strings.HasPrefix(e.Name(), "."+name+".") && !slices.Contains(keep, e.Name()) {
			err = errors.Join(err, root.RemoveAll(e.Name()))
		}
	}
	return err
}
