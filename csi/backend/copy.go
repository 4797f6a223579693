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

// Copy is a file that gets the content of a source, and then becomes a snapshot or a volume
// in one step: by being renamed. Until then it is neither, and what was cut off is gone on
// with, or made anew. Close it.
type Copy struct {
	Place string // below the pool's root
	Done  int64  // bytes from the beginning that are there

	b      Block
	file   *os.File // with its lock: nobody else works on it
	source *Source
	note   ondisk.Copy
}

// ErrCopying says that somebody else works on this copy.
var ErrCopying = errors.New("the copy is being made by somebody else")

// copyPlace is where a copy is made. A pool spreads files over its sets by their names:
// another try is perhaps on another set.
func copyPlace(key string, try int) string {
	kind, name, _ := cutKey(key)
	return ondisk.Copies + "/" + kind + "-" + name + "." + strconv.Itoa(try)
}

func cutKey(key string) (kind, name string, is bool) {
	kind, name = path.Split(key)
	return path.Clean(kind), name, kind == volumeKey || kind == snapshotKey
}

// BeginCopy makes the file of what will be a volume or snapshot, by its key, or finds the one
// that was cut off. Another try has another file. ErrCopying.
func (b Block) BeginCopy(key string, try int, s *Source) (*Copy, error) {
	place := copyPlace(key, try)
	for {
		f, err := b.copyFile(place)
		if err != nil {
			return nil, err
		}
		c := &Copy{Place: place, b: b, file: f, source: s}
		again, err := c.begin()
		if err != nil || again {
			err = errors.Join(err, f.Close())
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("copying %s to %s: %w", s.Key, key, err)
		case !again:
			return c, nil
		}
	}
}

// copyFile makes or opens the file, and locks it.
func (b Block) copyFile(place string) (*os.File, error) {
	f, err := b.Root.Create(place, blockMode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := errors.Join(b.Root.MkdirAll(blockTrash, ownMode), b.Root.MkdirAll(ondisk.Copies, ownMode)); err != nil {
			return nil, fmt.Errorf("making %s: %w", ondisk.Copies, err)
		}
		f, err = b.Root.Create(place, blockMode)
	}
	if err != nil {
		return nil, fmt.Errorf("making %s: %w", place, err)
	}
	if err := ofd.Lock(f); errors.Is(err, ofd.ErrHeld) {
		return nil, errors.Join(fmt.Errorf("%w: %s", ErrCopying, place), f.Close())
	} else if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// begin gives a file that is empty its size and its note, or reads the note. What is of
// another source, or of another time, is removed: again.
func (c *Copy) begin() (again bool, err error) {
	if is, err := c.b.isAt(c.file, c.Place); err != nil || !is {
		return true, err // it has become what it is for meanwhile, or was removed
	}
	e := safepath.Of(c.file)
	want := c.source.note()
	text, err := e.Attribute(ondisk.CopyAttribute)
	if err == nil {
		c.note, err = ondisk.DecodeCopy(text)
		want.Version, want.Done = c.note.Version, c.note.Done
		if c.Done = c.note.Done; err == nil && want.Epoch != neverAgain && c.note == want {
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

// isAt tells whether an open file is what is at a place now.
func (b Block) isAt(f *os.File, place string) (bool, error) {
	e, err := b.Root.OpenPath(place)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer e.Close()
	return e.Same(safepath.Of(f))
}

// progress notes how much is there.
func (c *Copy) progress(done int64) error {
	c.note.Done, c.Done = done, done
	text, err := c.note.Encode()
	if err == nil {
		err = safepath.Of(c.file).SetAttribute(ondisk.CopyAttribute, text)
	}
	return err
}

// Shared notes that the whole content is there: the bricks share it.
func (c *Copy) Shared() error { return c.progress(c.source.Size) }

// Fill copies what is not there yet. It can be cut off, and goes on. said is told now and
// then how much is there, in bytes.
func (c *Copy) Fill(ctx context.Context, said func(done int64)) error {
	from, err := c.b.content(c.source)
	if err != nil {
		return err
	}
	defer from.Close()
	err = copyContent(ctx, c.file, from, c.Done, c.source.Size, func(done int64) error {
		said(done)
		return c.progress(done)
	})
	if err != nil {
		return fmt.Errorf("copying the content of %s: %w", c.source.Key, err)
	}
	return nil
}

// BecomeSnapshot makes the copy a snapshot, in one step. ErrExists when there is one.
func (c *Copy) BecomeSnapshot(s Snapshot) error {
	text, err := s.record().Encode()
	if err != nil {
		return err
	}
	if err := c.become(snapshotPlace(s.Name), ondisk.SnapshotAttribute, text); err != nil {
		return fmt.Errorf("making snapshot %s: %w", s.Name, err)
	}
	return nil
}

// BecomeVolume makes the copy a volume, in one step, as large as it is claimed. ErrExists when
// there is one.
func (c *Copy) BecomeVolume(claim CreateRequest) (Volume, error) {
	r := claim.record(c.b.Now.now())
	text, err := r.Encode()
	if err != nil {
		return Volume{}, err
	}
	attached, err := ondisk.Attachment{Formatted: c.source.Formatted}.Encode()
	if err == nil {
		err = safepath.Of(c.file).SetAttribute(ondisk.AttachmentAttribute, attached)
	}
	if err == nil {
		err = extend(c.file, r)
	}
	if err == nil {
		err = c.become(c.b.Place(claim.Name), ondisk.Attribute, text)
	}
	if err != nil {
		return Volume{}, fmt.Errorf("making volume %s: %w", claim.Name, err)
	}
	return r.volume(claim.Name), nil
}

// become gives the copy a record and its name. A file without a record at that name is the
// rest of a call that was cut off, and goes.
func (c *Copy) become(place, attribute string, record []byte) error {
	if e, err := c.b.Root.OpenPath(place); err == nil {
		_, err = e.Attribute(attribute)
		e.Close()
		if !errors.Is(err, safepath.ErrNoAttribute) {
			return errors.Join(err, ErrExists)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	e := safepath.Of(c.file)
	if err := c.file.Sync(); err != nil {
		return err
	}
	if err := errors.Join(e.SetAttribute(attribute, record), e.RemoveAttribute(ondisk.CopyAttribute), c.b.Root.MkdirAll(path.Dir(place), ownMode)); err != nil {
		return err
	}
	return c.b.Root.Rename(c.Place, place)
}

// Discard removes the copy: it is of no use.
func (c *Copy) Discard() error { return c.b.Root.Unlink(c.Place) }

// Close lets go of it.
func (c *Copy) Close() error { return errors.Join(ofd.Unlock(c.file), c.file.Close()) }
