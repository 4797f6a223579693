// Package quota holds the volumes of one brick to their sizes, by the project quotas
// of the brick's file system.
package quota

import (
	"fmt"
	"os"
	"sync"

	"github.com/atoll-storage/atoll/internal/linux/beneath"
	"github.com/atoll-storage/atoll/internal/linux/project"
)

// Brick is a brick's folder on a file system that enforces project quotas.
type Brick struct {
	root *beneath.Dir
	file *os.File
	mu   sync.Mutex // projects are chosen by looking which are free
	fs   *project.FileSystem
}

// Open looks at a brick; project.ErrUnsupported if its file system enforces none.
// Close it.
func Open(directory string) (*Brick, error) {
	root, err := beneath.Open(directory)
	if err != nil {
		return nil, fmt.Errorf("opening the brick: %w", err)
	}
	file, err := root.Read(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("opening the brick: %w", err)
	}
	b := &Brick{root: root, file: file}
	if b.fs, err = project.Open(file); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close closes the brick. Limits stay.
func (b *Brick) Close() {
	b.file.Close()
	b.root.Close()
}

// Limit bounds a volume's folder, a path below the brick's.
func (b *Brick) Limit(folder string, bytes uint64) error {
	f, err := b.root.Read(folder)
	if err != nil {
		return fmt.Errorf("opening the volume's folder on the brick: %w", err)
	}
	defer f.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fs.Limit(f, folder, bytes)
}

// Usage tells what a volume has of its limit; project.ErrNone when it has none.
func (b *Brick) Usage(folder string) (project.Usage, error) {
	f, err := b.root.Read(folder)
	if err != nil {
		return project.Usage{}, fmt.Errorf("opening the volume's folder on the brick: %w", err)
	}
	defer f.Close()
	return b.fs.Usage(f)
}
