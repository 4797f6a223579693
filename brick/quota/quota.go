// Package quota holds the volumes of one brick to their sizes, by the project quotas
// of the brick's file system.
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

// joining has a folder for every folder whose files are not all in its project yet: it
// had files when it got its limit, as on a brick that is healed. An attribute of the
// folder itself would be healed onto other bricks.
const joining = ondisk.GlusterDir + "/atoll/joining"

// joiningOf is that of a folder.
func joiningOf(folder string) string {
	sum := sha256.Sum256([]byte(folder))
	return joining + "/" + hex.EncodeToString(sum[:16])
}

// Brick is a brick's folder on a file system that enforces project quotas.
type Brick struct {
	root *safepath.Dir
	file *os.File
	mu   sync.Mutex // projects are chosen by looking which are free
	fs   *prjquota.FileSystem
}

// Open looks at a brick; project.ErrUnsupported if its file system enforces none.
// Close it.
func Open(directory string) (*Brick, error) {
	root, err := safepath.Open(directory)
	if err != nil {
		return nil, fmt.Errorf("opening the brick: %w", err)
	}
	file, err := root.OpenDir(".")
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("opening the brick: %w", err)
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

// Limit bounds a volume's folder, a path below the brick's, with all that is in it. It
// can be repeated, and be cut off anywhere.
func (b *Brick) Limit(ctx context.Context, folder string, bytes uint64) error {
	d, err := b.root.Dir(folder)
	if err != nil {
		return fmt.Errorf("opening the volume's folder on the brick: %w", err)
	}
	defer d.Close()
	f, err := d.OpenDir(".")
	if err != nil {
		return fmt.Errorf("opening the volume's folder on the brick: %w", err)
	}
	defer f.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	half, err := b.begin(d, f, folder)
	if err != nil {
		return err
	}
	if err := b.fs.Limit(f, folder, bytes); err != nil {
		return err
	}
	if !half {
		return nil
	}
	if err := b.join(ctx, d, f); err != nil {
		return fmt.Errorf("counting what is in %s already: %w", folder, err)
	}
	return b.root.Rmdir(joiningOf(folder))
}

// begin tells whether files of the folder are not in its project, and marks it before
// that becomes so.
func (b *Brick) begin(d *safepath.Dir, f *os.File, folder string) (half bool, err error) {
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
	return true, b.root.MkdirAll(joiningOf(folder), 0o700)
}

// join puts all below a folder into its project. Links and special files have no data.
func (b *Brick) join(ctx context.Context, d *safepath.Dir, folder *os.File) error {
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
			err = b.joinOne(ctx, d, name, folder, kind == unix.S_IFDIR)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it may go while we look
			return err
		}
	}
	return nil
}

func (b *Brick) joinOne(ctx context.Context, d *safepath.Dir, name string, folder *os.File, isDir bool) error {
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
	return b.join(ctx, below, folder)
}

// Usage tells what a volume has of its limit; project.ErrNone when it has none.
func (b *Brick) Usage(folder string) (prjquota.Usage, error) {
	f, err := b.root.OpenDir(folder)
	if err != nil {
		return prjquota.Usage{}, fmt.Errorf("opening the volume's folder on the brick: %w", err)
	}
	defer f.Close()
	return b.fs.Usage(f)
}

// Complete tells whether all of a volume is counted.
func (b *Brick) Complete(folder string) (bool, error) {
	d, err := b.root.Dir(joiningOf(folder))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, d.Close()
}
