package backend

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"

	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Copy is a file that gets the content of a source and then becomes a snapshot or a volume in
// one step, by being renamed. Until then it is neither. An interrupted copy is continued or
// made again. Close it.
type Copy struct {
	Place string // below the pool's root
	Done  int64  // bytes from the beginning that are copied

	b      Block
	file   *os.File // locked: no other call works on it
	source *Source
	note   ondisk.Copy
}

// ErrCopying reports that another call works on this copy.
var ErrCopying = errors.New("the copy is being made by another call")

// copyPlace is the path of a copy. A pool distributes files over its sets by their names:
// another try may be on another set.
func copyPlace(key string, try int) string {
	kind, name, _ := cutKey(key)
	return ondisk.Copies + "/" + kind + "-" + name + "." + strconv.Itoa(try)
}

func cutKey(key string) (kind, name string, is bool) {
	kind, name = path.Split(key)
	return path.Clean(kind), name, kind == volumeKey || kind == snapshotKey
}

// BeginCopy creates the file of a future volume or snapshot, by its key, or opens that of an
// interrupted copy. Each try has another file. ErrCopying.
func (b Block) BeginCopy(key string, try int, s *Source) (*Copy, error) {
	place := copyPlace(key, try)
	for {
		f, err := b.copyFile(place)
		if err != nil {
			return nil, err
		}
		c := &Copy{Place: place, b: b, file: f, source: s}
		retry, err := c.prepare()
		if err != nil || retry {
			err = errors.Join(err, f.Close())
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("copy %s to %s: %w", s.Key, key, err)
		case !retry:
			return c, nil
		}
	}
}

// copyFile creates or opens the file, and locks it.
func (b Block) copyFile(place string) (*os.File, error) {
	f, err := b.Root.Create(place, blockMode)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(b.Root.MkdirAll(blockTrash, privateMode), b.Root.MkdirAll(ondisk.Copies, privateMode))
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", ondisk.Copies, err)
		}
		f, err = b.Root.Create(place, blockMode)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", place, err)
	}
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrLocked) {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrCopying, place), f.Close())
	} else if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// prepare gives an empty file its size and its note, or reads the note. A file with another
// source, or with an earlier state of it, is removed: retry.
func (c *Copy) prepare() (retry bool, err error) {
	if same, err := c.b.isAt(c.file, c.Place); err != nil || !same {
		return true, err // it was completed or removed before it was locked
	}
	e := safepath.FromFile(c.file)
	want := c.source.note()
	text, err := e.Attribute(ondisk.CopyAttribute)
	if err == nil {
		c.note, err = ondisk.DecodeCopy(text)
		want.Version, want.Done = c.note.Version, c.note.Done
		if c.Done = c.note.Done; err == nil && want.Epoch != neverResume && c.note == want {
			return false, nil
		}
		return true, c.b.Root.Unlink(c.Place)
	}
	if !errors.Is(err, safepath.ErrNoAttribute) {
		return false, err
	}
	// Without a note, nothing was ever written to it.
	c.note = want
	if err := c.file.Truncate(c.source.Size); err != nil {
		return false, err
	}
	return false, c.progress(0)
}

// isAt reports whether an open file is the one at this path now.
func (b Block) isAt(f *os.File, place string) (bool, error) {
	e, err := b.Root.OpenPath(place)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer e.Close()
	same, err := e.Same(safepath.FromFile(f))
	if errors.Is(err, safepath.ErrGone) {
		return false, nil // at least one of them is nowhere
	}
	return same, err
}

// progress notes how much is copied.
func (c *Copy) progress(done int64) error {
	c.note.Done, c.Done = done, done
	text, err := c.note.Encode()
	if err == nil {
		err = safepath.FromFile(c.file).SetAttribute(ondisk.CopyAttribute, text)
	}
	return err
}

// MarkShared notes that the content is complete: the bricks share it.
func (c *Copy) MarkShared() error { return c.progress(c.source.Size) }

// Fill copies what is missing. It may be interrupted and continued. It calls onProgress from
// time to time with the number of bytes that are copied.
func (c *Copy) Fill(ctx context.Context, onProgress func(done int64)) error {
	from, err := c.b.content(c.source)
	if err != nil {
		return err
	}
	defer from.Close()
	err = copyContent(ctx, c.file, from, c.Done, c.source.Size, func(done int64) error {
		onProgress(done)
		return c.progress(done)
	})
	if err != nil {
		return fmt.Errorf("copy the content of %s: %w", c.source.Key, err)
	}
	return nil
}

// BecomeSnapshot makes the copy a snapshot in one step. ErrExists when there is one already.
func (c *Copy) BecomeSnapshot(s Snapshot) error {
	text, err := s.record().Encode()
	if err != nil {
		return err
	}
	if err := c.publish(snapshotPlace(s.Name), ondisk.SnapshotAttribute, text); err != nil {
		return fmt.Errorf("create snapshot %s: %w", s.Name, err)
	}
	return nil
}

// BecomeVolume makes the copy a volume of the requested size in one step. ErrExists when there
// is one already.
func (c *Copy) BecomeVolume(request CreateRequest) (Volume, error) {
	r := request.record(c.b.Now.now())
	text, err := r.Encode()
	if err != nil {
		return Volume{}, err
	}
	attached, err := ondisk.Attachment{Formatted: c.source.Formatted}.Encode()
	if err == nil {
		err = safepath.FromFile(c.file).SetAttribute(ondisk.AttachmentAttribute, attached)
	}
	if err == nil {
		err = extend(c.file, r)
	}
	if err == nil {
		err = c.publish(c.b.Place(request.Name), ondisk.Attribute, text)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("create volume %s: %w", request.Name, err)
	}
	return r.volume(request.Name), nil
}

// publish gives the copy a record and its final path. A file without a record at that path is
// left over from an interrupted call, and is replaced.
func (c *Copy) publish(place, attribute string, record []byte) error {
	if e, err := c.b.Root.OpenPath(place); err == nil {
		_, err = e.Attribute(attribute)
		e.Close()
		if !errors.Is(err, safepath.ErrNoAttribute) {
			return errors.Join(err, ErrExists)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	e := safepath.FromFile(c.file)
	if err := c.file.Sync(); err != nil {
		return err
	}
	err := errors.Join(e.SetAttribute(attribute, record), e.RemoveAttribute(ondisk.CopyAttribute),
		c.b.Root.MkdirAll(path.Dir(place), privateMode))
	if err != nil {
		return err
	}
	return c.b.Root.Rename(c.Place, place)
}

// Discard removes the copy.
func (c *Copy) Discard() error { return c.b.Root.Unlink(c.Place) }

// Close unlocks and closes the file.
func (c *Copy) Close() error { return errors.Join(ofd.Unlock(c.file), c.file.Close()) }
