// Package catalog reads the pools that the driver serves from a directory, which has one
// directory for each pool, with the files of its catalog ConfigMap. It is read for every
// request, so a pool that is added, changed, broken or removed is so at once, and never
// affects another pool.
package catalog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	entry "github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Pool is a pool's entry and its client volfiles.
type Pool struct {
	entry.Entry
	Files  string // "" for External
	Blocks string // "" where blocks are not served
}

// Folder is the directory of a catalog.
type Folder struct{ Dir string }

// Errors of Pool.
var (
	ErrNoPool = errors.New("no such pool")
	ErrBroken = errors.New("unusable catalog entry")
)

// maxFile is the largest file that is read, in bytes: the limit of a ConfigMap.
const maxFile = 1 << 20

// Pool reads one pool. All files are of the same version, even while the pool changes.
func (f Folder) Pool(name string) (Pool, error) {
	if !volumeid.IsPart(name) {
		return Pool{}, fmt.Errorf("%w: %q is not a pool's name", ErrNoPool, name)
	}
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return Pool{}, fmt.Errorf("open the catalog: %w", err)
	}
	defer root.Close()
	p, err := readPool(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return Pool{}, fmt.Errorf("%w: %s; is it applied, and does the driver follow its namespace "+
			"(--namespaces of the catalog containers)?", ErrNoPool, name)
	}
	if err == nil && p.Pool != name {
		err = fmt.Errorf("the entry belongs to pool %s", p.Pool)
	}
	if err != nil {
		return Pool{}, fmt.Errorf("%w: %s: %w", ErrBroken, name, err)
	}
	return p, nil
}

func readPool(catalog *os.Root, name string) (Pool, error) {
	root, err := catalog.OpenRoot(name)
	if err != nil {
		return Pool{}, err
	}
	defer root.Close()
	text, err := read(root, entry.KeyEntry)
	if err != nil {
		return Pool{}, err
	}
	var p Pool
	if p.Entry, err = entry.Decode(text); err != nil {
		return Pool{}, err
	}
	for key, into := range map[string]*string{entry.KeyFiles: &p.Files, entry.KeyBlocks: &p.Blocks} {
		text, err := read(root, key)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Pool{}, err
		}
		*into = string(text)
	}
	return p, nil
}

func read(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFile)
	}
	return text, err
}

// Names lists the pools, sorted, including broken ones.
func (f Folder) Names() ([]string, error) {
	entries, err := os.ReadDir(f.Dir)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	var names []string
	for _, e := range entries {
		if volumeid.IsPart(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}
