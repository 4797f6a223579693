// Package quota enforces the sizes of one brick's volumes, by the project quotas of the
// brick's file system.
package quota

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/prjquota"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// incomplete has a directory for every volume whose files are not all in its project yet,
// because it had files when it got its limit, as on a brick that is healed. An attribute
// of the volume itself would be healed onto other bricks.
const incomplete = ondisk.GlusterDir + "/atoll/joining"

// incompletePath is the path of a volume's directory there.
func incompletePath(folder string) string {
	sum := sha256.Sum256([]byte(folder))
	return incomplete + "/" + hex.EncodeToString(sum[:16])
}

// Brick is a brick on a file system that enforces project quotas.
type Brick struct {
	root *safepath.Dir
	file *os.File
	mu   sync.Mutex // choosing a free project must not race
	fs   *prjquota.FileSystem
}

// Open opens a brick; prjquota.ErrUnsupported if its file system does not enforce project
// quotas. Close it.
func Open(directory string) (*Brick, error) {
	root, err := safepath.Open(directory)
	if err != nil {
		return nil, fmt.Errorf("open brick: %w", err)
	}
	file, err := root.OpenDir(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("open brick: %w", err)
	}
	b := &Brick{root: root, file: file}
	if b.fs, err = prjquota.Open(file); err != nil {
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

// Limit limits a volume's directory, a path below the brick, including its existing
// content, to a number of bytes. It can be repeated, and interrupted anywhere.
func (b *Brick) Limit(ctx context.Context, folder string, bytes uint64) error {
	d, err := b.root.Dir(folder)
	if err != nil {
		return fmt.Errorf("open the volume's directory on the brick: %w", err)
	}
	defer d.Close()
	f, err := d.OpenDir(".")
	if err != nil {
		return fmt.Errorf("open the volume's directory on the brick: %w", err)
	}
	defer f.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	incomplete, err := b.markIncomplete(d, f, folder)
	if err != nil {
		return err
	}
	if err := b.fs.Limit(f, folder, bytes); err != nil {
		return err
	}
	if !incomplete {
		return nil
	}
	if err := b.addTree(ctx, d, f); err != nil {
		return fmt.Errorf("add the content of %s to its quota: %w", folder, err)
	}
	return b.root.Rmdir(incompletePath(folder))
}

// markIncomplete reports whether a directory has files outside its project, and marks it
// before that becomes so.
func (b *Brick) markIncomplete(d *safepath.Dir, f *os.File, folder string) (incomplete bool, err error) {
	if complete, err := b.Complete(folder); !complete || err != nil {
		return true, err
	}
	if _, err := b.fs.Usage(f); !errors.Is(err, prjquota.ErrNone) {
		return false, err
	}
	names, err := d.Names()
	if err != nil || len(names) == 0 {
		return false, err
	}
	return true, b.root.MkdirAll(incompletePath(folder), 0o700)
}

// addTree adds everything below a directory to its project. Symbolic links and special
// files have no data.
func (b *Brick) addTree(ctx context.Context, d *safepath.Dir, folder *os.File) error {
	names, err := d.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		mode, err := d.Mode(name)
		kind := mode & unix.S_IFMT
		if err == nil && (kind == unix.S_IFDIR || kind == unix.S_IFREG) {
			err = b.addEntry(ctx, d, name, folder, kind == unix.S_IFDIR)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it may be deleted meanwhile
			return err
		}
	}
	return nil
}

func (b *Brick) addEntry(ctx context.Context, d *safepath.Dir, name string, folder *os.File, isDir bool) error {
	f, err := d.ReadAny(name)
	if err != nil {
		return err
	}
	err = b.fs.Join(f, folder)
	f.Close()
	if err != nil || !isDir {
		return err
	}
	below, err := d.Dir(name)
	if err != nil {
		return err
	}
	defer below.Close()
	return b.addTree(ctx, below, folder)
}

// Usage returns the usage and limit of a volume; prjquota.ErrNone if it has no limit.
func (b *Brick) Usage(folder string) (prjquota.Usage, error) {
	f, err := b.root.OpenDir(folder)
	if err != nil {
		return prjquota.Usage{}, fmt.Errorf("open the volume's directory on the brick: %w", err)
	}
	defer f.Close()
	return b.fs.Usage(f)
}

// Complete reports whether all files of a volume count towards its limit.
func (b *Brick) Complete(folder string) (bool, error) {
	d, err := b.root.Dir(incompletePath(folder))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, d.Close()
}
