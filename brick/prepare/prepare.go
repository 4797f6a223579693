// Package prepare makes a brick ready before glusterfsd starts: it finds the
// brick's folder, proves that it is this pool's, and makes it when the place is
// empty. It formats blank devices only, and never empties a folder.
package prepare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
)

// xattrVolumeID is GlusterFS' own mark of a brick's folder: the 16 bytes of the volume
// ID. glusterfsd refuses to start without it (posix, message 113064).
const xattrVolumeID = "trusted.glusterfs.volume-id"

// Our own marks are on the folder within that GlusterFS keeps to itself. Those of the
// brick's folder are the volume's: healing takes what differs between bricks for damage,
// and would give one brick the marks of another.
const (
	marked = ondisk.GlusterDir
	// xattrPosition is pool and position, such as fast/0.
	xattrPosition = "trusted.atoll.brick"
	// xattrGeneration is a number in decimal; none is 1.
	xattrGeneration = "trusted.atoll.generation"
)

// staging is where a new brick is made, beside the brick's folder.
const staging = ".atoll-brick-new"

// Brick is one brick to prepare.
type Brick struct {
	Pool      string
	Position  string // index, or ta
	VolumeID  uuid.UUID
	Directory string // absolute; its parent is the mounted place
	Device    string // block device, or file, to mount at the parent; "" when it is mounted already

	// Generation counts the bricks that have been in this position; 0 is 1. A former
	// one has old data, and is refused.
	Generation int
	// State is a folder of the node's own, which remembers what was made on it; ""
	// remembers nothing. Place is what the document calls the brick's place.
	State, Place string
}

// Errors of Run. What they wrap tells what to do.
var (
	ErrForeign      = errors.New("the place holds something else")
	ErrMissing      = errors.New("the brick is not here, and was here before")
	ErrFormer       = errors.New("this is a former brick of this position")
	ErrNotEmpty     = errors.New("the folder has files and no mark of a brick")
	ErrNoFileSystem = errors.New("the device has no file system that a brick can use, and is not blank")
)

// Run prepares the brick. It can be repeated, and be cut off anywhere: a new
// brick appears under its name complete or not at all.
func Run(ctx context.Context, b Brick, log logr.Logger) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.Generation = max(1, b.Generation)
	if !filepath.IsAbs(b.Directory) || filepath.Clean(b.Directory) != b.Directory {
		return fmt.Errorf("the brick's directory %q is not a clean absolute path", b.Directory)
	}
	if err := b.run(ctx, log); err != nil {
		return err
	}
	return b.remember()
}

func (b Brick) run(ctx context.Context, log logr.Logger) error {
	parent := filepath.Dir(b.Directory)
	if b.Device != "" {
		if err := b.mount(ctx, parent, log); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(parent)
	if err != nil {
		return fmt.Errorf("opening the brick's place: %w; is the disk mounted?", err)
	}
	defer root.Close()
	name := filepath.Base(b.Directory)
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := b.mayBeNew(); err != nil {
			return err
		}
		log.Info("making the brick", "directory", b.Directory)
		return b.create(root, name)
	case err != nil:
		return fmt.Errorf("looking at the brick: %w", err)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is no folder; move it away", ErrForeign, b.Directory)
	}
	log.Info("found the brick's folder", "directory", b.Directory)
	return b.adopt(root, name)
}

// create makes the brick in a staging folder and renames it into place.
func (b Brick) create(root *os.Root, name string) error {
	if err := root.RemoveAll(staging); err != nil { // of a run that was cut off
		return fmt.Errorf("removing an unfinished brick: %w", err)
	}
	if err := root.Mkdir(staging, 0o755); err != nil {
		return fmt.Errorf("making the brick: %w", err)
	}
	if err := b.markNew(root, staging); err != nil {
		return err
	}
	if err := root.Rename(staging, name); err != nil {
		return fmt.Errorf("putting the new brick in place: %w", err)
	}
	return sync(root, ".")
}

// markNew marks a brick that has nothing yet.
func (b Brick) markNew(root *os.Root, name string) error {
	own := name + "/" + marked
	if err := root.Mkdir(own, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making %s: %w", marked, err)
	}
	for attribute, value := range map[string]string{ondisk.FreshAttribute: "1", ondisk.JoiningAttribute: uuid.NewString()} {
		if err := setAttribute(root, own, attribute, []byte(value)); err != nil {
			return err
		}
	}
	return b.mark(root, name)
}

// mark writes what makes a folder this pool's brick.
func (b Brick) mark(root *os.Root, name string) error {
	own := name + "/" + marked
	if err := root.Mkdir(own, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making %s: %w", marked, err)
	}
	// The volume ID is the last: with it, the folder is a brick.
	for _, m := range []struct {
		at, attribute string
		value         []byte
	}{
		{own, xattrPosition, []byte(b.position())},
		{own, xattrGeneration, []byte(strconv.Itoa(b.Generation))},
		{name, xattrVolumeID, b.VolumeID[:]},
	} {
		if err := setAttribute(root, m.at, m.attribute, m.value); err != nil {
			return err
		}
	}
	return errors.Join(sync(root, own), sync(root, name))
}

func (b Brick) position() string { return b.Pool + "/" + b.Position }

// adopt takes a folder that is there: this very brick, or an empty one.
func (b Brick) adopt(root *os.Root, name string) error {
	id, err := attribute(root, name, xattrVolumeID)
	if err != nil {
		return err
	}
	if id == "" {
		if empty, err := isEmpty(root, name); err != nil || !empty {
			return errors.Join(err, fmt.Errorf("%w: %s; if it is to become a brick, move the files away, else correct the pool's document", ErrNotEmpty, b.Directory))
		}
		if err := b.mayBeNew(); err != nil {
			return err
		}
		return b.markNew(root, name)
	}
	if id != string(b.VolumeID[:]) {
		found, _ := uuid.FromBytes([]byte(id))
		return fmt.Errorf("%w: %s is a brick of the volume %s, this pool is %s; if that is the pool's own data, set volumeID: %s in its document",
			ErrForeign, b.Directory, found, b.VolumeID, found)
	}
	at, err := attribute(root, name+"/"+marked, xattrPosition)
	if err != nil {
		return err
	}
	if at != "" && at != b.position() {
		return fmt.Errorf("%w: %s is brick %s, here it would be %s; bricks of the document have changed places: put them back", ErrForeign, b.Directory, at, b.position())
	}
	if err := b.current(root, name); err != nil {
		return err
	}
	return b.mark(root, name)
}

func setAttribute(root *os.Root, name, attribute string, value []byte) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Fsetxattr(int(d.Fd()), attribute, value, 0); err != nil {
		return fmt.Errorf("marking the brick with %s: %w; the file system must take trusted attributes, and the process needs CAP_SYS_ADMIN", attribute, err)
	}
	return nil
}

// current holds that a brick is of the generation that is asked for.
func (b Brick) current(root *os.Root, name string) error {
	text, err := attribute(root, name+"/"+marked, xattrGeneration)
	if err != nil {
		return err
	}
	found := 1
	if text != "" {
		if found, err = strconv.Atoi(text); err != nil {
			return fmt.Errorf("%w: its %s is %q", ErrForeign, xattrGeneration, text)
		}
	}
	switch {
	case found < b.Generation:
		return fmt.Errorf("%w: %s is generation %d, the document asks for %d; its data is old: take the disk away or empty it, so that a new brick can be made",
			ErrFormer, b.Directory, found, b.Generation)
	case found > b.Generation:
		return fmt.Errorf("%w: %s is generation %d, the document asks for %d; is the document an old one?", ErrForeign, b.Directory, found, b.Generation)
	}
	return nil
}

// attribute reads an extended attribute, "" when there is none.
func attribute(root *os.Root, name, attribute string) (string, error) {
	d, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("opening the brick: %w", err)
	}
	defer d.Close()
	value := make([]byte, 256)
	n, err := unix.Fgetxattr(int(d.Fd()), attribute, value)
	if errors.Is(err, unix.ENODATA) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", attribute, err)
	}
	return string(value[:n]), nil
}

// isEmpty tells whether a folder has nothing, or no more than a run that was cut off has
// made there.
func isEmpty(root *os.Root, name string) (bool, error) {
	d, err := root.Open(name)
	if err != nil {
		return false, err
	}
	defer d.Close()
	names, err := d.Readdirnames(2)
	switch {
	case errors.Is(err, io.EOF):
		return true, nil
	case err == nil && len(names) == 1 && names[0] == marked:
		return isEmpty(root, name+"/"+marked)
	}
	return false, err
}

func sync(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("writing the brick to disk: %w", err)
	}
	return nil
}
