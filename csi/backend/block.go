package backend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// Block keeps many volumes in a pool, each a sparse file that becomes a block device on
// the node that has it. It is for mounts with the graph of blocks, which has strict locks;
// written through another one, a file would not be fenced.
type Block struct {
	Root *safepath.Dir // of the mounted pool
	Now  clock         // nil is time.Now
}

// Folders of a pool for blocks.
const (
	blockTrash   = ondisk.Blocks + "/trash"
	blockArchive = ondisk.Blocks + "/archive"
	blockVolumes = ondisk.BlockVolumes
)

// blockMode is of a volume's file: it is for the driver alone.
const blockMode = 0o600

// ErrInUse says that a node has the volume.
var ErrInUse = errors.New("the volume is in use")

// Place is where a volume of this name is, or would be, below the pool's root.
func (Block) Place(name string) string { return hashedIn(blockVolumes, name) + "/" + name }

// Create makes the file and then its record, which says how large it is; then it is made
// that large. A file without a record, or one that is smaller, is the rest of a call that
// was cut off, and is finished.
func (b Block) Create(_ context.Context, c CreateRequest) (Volume, error) {
	place := b.Place(c.Name)
	f, err := b.Root.Create(place, blockMode)
	if errors.Is(err, fs.ErrNotExist) {
		// The trash too: on a pool that is full, there is no room for it any more.
		if err := errors.Join(b.Root.MkdirAll(blockTrash, ownMode), b.Root.MkdirAll(path.Dir(place), ownMode)); err != nil {
			return Volume{}, fmt.Errorf("making volume %s: %w", c.Name, err)
		}
		f, err = b.Root.Create(place, blockMode)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("making volume %s: %w", c.Name, err)
	}
	defer f.Close()
	r := c.record(b.Now.now())
	if err := r.create(safepath.Of(f)); errors.Is(err, fs.ErrExist) {
		if r, err = read(safepath.Of(f)); err != nil {
			return Volume{}, fmt.Errorf("volume %s: %w", c.Name, err)
		}
	} else if err != nil {
		return Volume{}, fmt.Errorf("recording volume %s: %w", c.Name, err)
	}
	v := r.volume(c.Name)
	if err := v.fitsBlock(c); err != nil {
		return Volume{}, err
	}
	return v, extend(f, r)
}

// fitsBlock holds an existing volume to a claim, and tells what it is if it does not fit.
func (v Volume) fitsBlock(c CreateRequest) error {
	if v.fits(c) {
		return nil
	}
	return fmt.Errorf("%w: %s has %d bytes for %s, made of %s, and was asked for as %q", ErrExists, v.Name, v.Size, kindOf(v), cmp.Or(v.Source, "nothing"), v.Request)
}

func kindOf(v Volume) string {
	switch {
	case v.Shared:
		return "raw use by several nodes"
	case v.FileSystem == "":
		return "raw use"
	}
	return v.FileSystem
}

// extend makes the file as large as its record says. It never shrinks: what is larger was
// made so by a call that had written a newer record.
func extend(f *os.File, r record) error {
	info, err := f.Stat()
	if err == nil && info.Size() < r.Size {
		err = f.Truncate(r.Size)
	}
	if err != nil {
		return fmt.Errorf("giving volume %s its size: %w", f.Name(), err)
	}
	return nil
}

// Get reads a volume.
func (b Block) Get(_ context.Context, name string) (Volume, error) {
	e, r, err := b.look(name)
	if err != nil {
		return Volume{}, err
	}
	return r.volume(name), e.Close()
}

// look finds a volume that has a record.
func (b Block) look(name string) (*safepath.Entry, record, error) {
	e, err := b.Root.OpenPath(b.Place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, record{}, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, record{}, fmt.Errorf("opening volume %s: %w", name, err)
	}
	r, err := read(e)
	if err != nil {
		e.Close()
		return nil, record{}, fmt.Errorf("volume %s: %w", name, err)
	}
	return e, r, nil
}

// Attachment tells who has a volume.
func (b Block) Attachment(name string) (ondisk.Attachment, error) {
	e, _, err := b.look(name)
	if err != nil {
		return ondisk.Attachment{}, err
	}
	defer e.Close()
	return attachment(e)
}

func attachment(e attributes) (ondisk.Attachment, error) {
	text, err := e.Attribute(ondisk.AttachmentAttribute)
	if errors.Is(err, safepath.ErrNoAttribute) {
		return ondisk.Attachment{}, nil
	}
	if err != nil {
		return ondisk.Attachment{}, err
	}
	return ondisk.DecodeAttachment(text)
}

// Expand raises the size in the record, and then the file's.
func (b Block) Expand(_ context.Context, name string, size int64) (Volume, error) {
	r, err := b.change(name, func(r *record) bool { return r.grow(size) })
	if err != nil {
		return Volume{}, err
	}
	f, err := b.Root.OpenRDWR(b.Place(name))
	if err != nil {
		return Volume{}, fmt.Errorf("opening volume %s: %w", name, err)
	}
	defer f.Close()
	return r.volume(name), extend(f, r)
}

// SetReclaim changes the policy in the record.
func (b Block) SetReclaim(_ context.Context, name string, after schema.Reclaim) (Volume, error) {
	r, err := b.change(name, func(r *record) bool { return r.keep(after) })
	return r.volume(name), err
}

func (b Block) change(name string, edit func(*record) bool) (record, error) {
	e, r, err := b.look(name)
	if err != nil {
		return record{}, err
	}
	defer e.Close()
	if edit(&r) {
		if err := r.replace(e); err != nil {
			return record{}, fmt.Errorf("recording volume %s: %w", name, err)
		}
	}
	return r, nil
}

// Rewrite writes the record again. A file is on one set, with all that is on it.
func (b Block) Rewrite(name string) error {
	e, r, err := b.look(name)
	if err != nil {
		return err
	}
	defer e.Close()
	return r.rewrite(e)
}

// Delete moves the file aside in one step, with its lock held: nobody has it then, and
// nobody gets it. ErrInUse while a node has it.
func (b Block) Delete(_ context.Context, name string) error {
	f, err := b.Root.OpenRDWR(b.Place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening volume %s: %w", name, err)
	}
	defer f.Close()
	return b.delete(f, name)
}

func (b Block) delete(f *os.File, name string) error {
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrHeld) {
		return fmt.Errorf("%w: %s", ErrInUse, b.who(f, name))
	} else if err != nil {
		return err
	}
	place := b.Place(name)
	if there, err := b.isAt(f, place); err != nil || !there {
		return err // another controller was faster: what is there now, if anything, is another volume
	}
	r, err := read(safepath.Of(f))
	if errors.Is(err, ErrNotFound) { // never finished, and nobody's
		return b.Root.Unlink(place)
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	folder, to := r.aside(schema.Block, name, b.Now.now())
	if err := b.Root.MkdirAll(folder, ownMode); err != nil {
		return fmt.Errorf("making %s: %w", folder, err)
	}
	err = b.Root.Rename(place, to)
	if errors.Is(err, unix.ENOSPC) && folder == blockTrash { // there is no room for the name
		err = b.Root.Unlink(place)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another controller was faster
	}
	return err
}

// Free tells whether a volume can go to a node: ErrInUse while another one has its lock. A
// shared one can go to any, and has no attachment.
func (b Block) Free(name, node string) error {
	f, err := b.Root.OpenRDWR(b.Place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return fmt.Errorf("opening volume %s: %w", name, err)
	}
	defer f.Close()
	a, err := attachment(safepath.Of(f))
	if err != nil || a.Node == node || a.Node == "" {
		return err
	}
	held, err := ofd.Held(f)
	if err == nil && held {
		err = fmt.Errorf("%w: %s", ErrInUse, b.who(f, name))
	}
	return err
}

// who tells people which node has a volume.
func (b Block) who(f *os.File, name string) string {
	if all, err := holders(safepath.Of(f)); err == nil && len(all) > 0 {
		return fmt.Sprintf("%s was taken by %s", name, all)
	}
	a, err := attachment(safepath.Of(f))
	if err != nil || a.Node == "" {
		return name
	}
	return fmt.Sprintf("node %s has %s since %s", a.Node, name, a.Since.Format("2006-01-02 15:04:05 MST"))
}

// List reads all volumes, in no order.
func (b Block) List(ctx context.Context) ([]Volume, error) { return list(ctx, b.Root, blockVolumes) }

// LockedVolume is a volume's file with its lock held: no other node can write to it, and none
// that had it before can any more. Shared ones have locks that other nodes may have too.
type LockedVolume struct {
	File   *os.File
	Volume Volume
	Before ondisk.Attachment // who had it

	now ondisk.Attachment
}

// Lock opens a volume's file and takes its lock. ErrInUse while another one has it. Whether
// it is shared stands in its record.
func (b Block) Lock(name string) (*LockedVolume, error) {
	f, err := b.Root.OpenRDWR(b.Place(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, fmt.Errorf("opening volume %s: %w", name, err)
	}
	t, err := b.take(f, name)
	if err != nil {
		f.Close()
		return nil, err
	}
	return t, nil
}

func (b Block) take(f *os.File, name string) (*LockedVolume, error) {
	r, err := read(safepath.Of(f))
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	if r.Shared {
		return b.share(f, r, name)
	}
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrHeld) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, b.who(f, name))
	} else if err != nil {
		return nil, err
	}
	if err := b.stillThere(f, name); err != nil {
		return nil, err
	}
	before, err := attachment(safepath.Of(f))
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	return &LockedVolume{File: f, Volume: r.volume(name), Before: before, now: before}, extend(f, r)
}

// stillThere holds that a file, by now locked, is the volume's: whoever deletes one locks it
// too, and may have done so since it was opened. ErrNotFound.
func (b Block) stillThere(f *os.File, name string) error {
	there, err := b.isAt(f, b.Place(name))
	if err == nil && !there {
		err = fmt.Errorf("%w: %s was deleted at this moment", ErrNotFound, name)
	}
	return err
}

// Attach notes who has the volume from now on.
func (t *LockedVolume) Attach(node, boot string, now clock) error {
	t.now.Epoch = t.Before.Epoch + 1
	t.now.Node, t.now.Boot, t.now.Since = node, boot, now.now().UTC()
	return t.note()
}

// Formatted notes that a file system is on the volume, completely.
func (t *LockedVolume) Formatted(fileSystem string) error {
	t.now.Formatted = fileSystem
	return t.note()
}

// Detach notes that nobody has it; of a shared one, that this node does not.
func (t *LockedVolume) Detach() error {
	if t.Volume.Shared {
		return t.leave()
	}
	t.now.Node, t.now.Boot, t.now.Since = "", "", time.Time{}
	return t.note()
}

// Attachment is what was noted last.
func (t *LockedVolume) Attachment() ondisk.Attachment { return t.now }

func (t *LockedVolume) note() error {
	text, err := t.now.Encode()
	if err == nil {
		err = safepath.Of(t.File).SetAttribute(t.attribute(), text)
	}
	if err != nil {
		return fmt.Errorf("noting who has volume %s: %w", t.Volume.Name, err)
	}
	return nil
}

// Extend makes the file as large as the record says by now.
func (t *LockedVolume) Extend() error {
	r, err := read(safepath.Of(t.File))
	if err != nil {
		return fmt.Errorf("volume %s: %w", t.Volume.Name, err)
	}
	t.Volume = r.volume(t.Volume.Name)
	return extend(t.File, r)
}

// Close gives the volume up. Its lock is free when this returns: the kernel lets go of a
// file that was a device's some time later.
func (t *LockedVolume) Close() error { return errors.Join(ofd.Unlock(t.File), t.File.Close()) }
