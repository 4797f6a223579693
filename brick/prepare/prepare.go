// Package prepare makes a brick ready before glusterfsd starts. It finds the
// brick's directory, verifies that it belongs to this pool, and creates it where
// there is none. It formats blank devices only, and never empties a directory.
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

// xattrVolumeID is how GlusterFS marks a brick's directory: the 16 bytes of the volume
// ID. glusterfsd refuses to start without it (posix, message 113064).
const xattrVolumeID = "trusted.glusterfs.volume-id"

// Atoll's marks are on the directory inside the brick that GlusterFS keeps for itself.
// Attributes of the brick's root belong to the volume: self-heal treats a difference
// between bricks as damage, and would copy the marks of one brick to another.
const (
	markDir = ondisk.GlusterDir
	// xattrPosition is pool and position, such as fast/0.
	xattrPosition = "trusted.atoll.brick"
	// xattrGeneration is a decimal number; a missing attribute means 1.
	xattrGeneration = "trusted.atoll.generation"
)

// staging is the name under which a new brick is created, beside the brick's directory.
const staging = ".atoll-brick-new"

// Brick is one brick to prepare.
type Brick struct {
	Pool      string
	Position  string // index, or ta
	VolumeID  uuid.UUID
	Directory string // absolute; its parent is the mount point
	Device    string // block device, or file, to mount at the parent; "" if it is mounted already

	// Generation counts the bricks that have been in this position; 0 means 1. A brick
	// of a former generation has old data, and is refused.
	Generation int
	// State is a directory of the node that records which bricks were created there;
	// "" records nothing. Place is the brick's device, path or claim in the document.
	State, Place string
	// Set is for bricks of another operator.
	Set Set
}

// Errors of Run. The text around them says what to do.
var (
	ErrForeign      = errors.New("the disk or directory has foreign content")
	ErrMissing      = errors.New("the brick was created here before and is missing now")
	ErrFormer       = errors.New("this brick is of a former generation")
	ErrInUse        = errors.New("the former disk is in use")
	ErrNotEmpty     = errors.New("the directory has files but is not marked as a brick")
	ErrNoFileSystem = errors.New("the device is not blank and has no file system that a brick can use")
)

// Run prepares the brick. It can be repeated, and can be interrupted anywhere: a new
// brick appears under its name complete or not at all.
func Run(ctx context.Context, b Brick, log logr.Logger) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.Generation = max(1, b.Generation)
	if !filepath.IsAbs(b.Directory) || filepath.Clean(b.Directory) != b.Directory {
		return fmt.Errorf("check brick: the directory %q is not a clean absolute path", b.Directory)
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
		return fmt.Errorf("open the brick's parent directory: %w; check that the disk is mounted", err)
	}
	defer root.Close()
	name := filepath.Base(b.Directory)
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := b.checkMayBeNew(); err != nil {
			return err
		}
		log.Info("creating the brick", "directory", b.Directory)
		return b.create(root, name)
	case err != nil:
		return fmt.Errorf("stat brick: %w", err)
	case !info.IsDir():
		return fmt.Errorf("%w: %s is not a directory; move it away", ErrForeign, b.Directory)
	}
	log.Info("found the brick's directory", "directory", b.Directory)
	return b.adopt(root, name)
}

// create makes the brick in a staging directory and renames it into place.
func (b Brick) create(root *os.Root, name string) error {
	if err := root.RemoveAll(staging); err != nil { // of an interrupted run
		return fmt.Errorf("remove unfinished brick: %w", err)
	}
	if err := root.Mkdir(staging, 0o755); err != nil {
		return fmt.Errorf("create brick: %w", err)
	}
	if err := b.markNew(root, staging); err != nil {
		return err
	}
	if err := root.Rename(staging, name); err != nil {
		return fmt.Errorf("rename new brick into place: %w", err)
	}
	return sync(root, ".")
}

// markNew marks a brick that has no content yet.
func (b Brick) markNew(root *os.Root, name string) error {
	dir := name + "/" + markDir
	if err := root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create %s: %w", markDir, err)
	}
	for attribute, value := range map[string]string{
		ondisk.FreshAttribute:   "1",
		ondisk.JoiningAttribute: uuid.NewString(),
	} {
		if err := setAttribute(root, dir, attribute, []byte(value)); err != nil {
			return err
		}
	}
	return b.mark(root, name)
}

// mark writes the attributes that make a directory this pool's brick.
func (b Brick) mark(root *os.Root, name string) error {
	dir := name + "/" + markDir
	if err := root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create %s: %w", markDir, err)
	}
	// The volume ID comes last: it is what makes the directory a brick.
	for _, m := range []struct {
		at, attribute string
		value         []byte
	}{
		{dir, xattrPosition, []byte(b.position())},
		{dir, xattrGeneration, []byte(strconv.Itoa(b.Generation))},
		{name, xattrVolumeID, b.VolumeID[:]},
	} {
		if err := setAttribute(root, m.at, m.attribute, m.value); err != nil {
			return err
		}
	}
	return errors.Join(sync(root, dir), sync(root, name))
}

func (b Brick) position() string { return b.Pool + "/" + b.Position }

// adopt accepts an existing directory: this brick, or an empty directory.
func (b Brick) adopt(root *os.Root, name string) error {
	id, err := attribute(root, name, xattrVolumeID)
	if err != nil {
		return err
	}
	if id == "" {
		if empty, err := isEmpty(root, name); err != nil || !empty {
			return errors.Join(err,
				fmt.Errorf("%w: %s; to make it a brick, move the files away, otherwise correct the pool's document",
					ErrNotEmpty, b.Directory))
		}
		if err := b.checkMayBeNew(); err != nil {
			return err
		}
		return b.markNew(root, name)
	}
	if id != string(b.VolumeID[:]) {
		found, _ := uuid.FromBytes([]byte(id))
		return fmt.Errorf("%w: %s is a brick of volume %s, this pool is volume %s; if it holds this pool's data, set volumeID: %s in its document",
			ErrForeign, b.Directory, found, b.VolumeID, found)
	}
	at, err := attribute(root, name+"/"+markDir, xattrPosition)
	if err != nil {
		return err
	}
	if at != "" && at != b.position() {
		return fmt.Errorf("%w: %s is brick %s, the document has it as %s; restore the order of the document's bricks",
			ErrForeign, b.Directory, at, b.position())
	}
	if err := b.checkGeneration(root, name); err != nil {
		return err
	}
	if at == "" {
		if err := b.checkFormer(b.Directory); err != nil {
			return err
		}
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
		return fmt.Errorf("set attribute %s of the brick: %w; the file system must support trusted attributes, and the process needs CAP_SYS_ADMIN", attribute, err)
	}
	return nil
}

// checkGeneration verifies that a brick is of the generation that the document names.
func (b Brick) checkGeneration(root *os.Root, name string) error {
	text, err := attribute(root, name+"/"+markDir, xattrGeneration)
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
		return fmt.Errorf("%w: %s is generation %d, the document names %d; its data is stale: remove the disk or empty it, so that a new brick can be created",
			ErrFormer, b.Directory, found, b.Generation)
	case found > b.Generation:
		return fmt.Errorf("%w: %s is generation %d, the document names %d; check whether the document is an old revision", ErrForeign, b.Directory, found, b.Generation)
	}
	return nil
}

// attribute reads an extended attribute, "" if it does not exist.
func attribute(root *os.Root, name, attribute string) (string, error) {
	d, err := root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open brick: %w", err)
	}
	defer d.Close()
	value := make([]byte, 256)
	n, err := unix.Fgetxattr(int(d.Fd()), attribute, value)
	if errors.Is(err, unix.ENODATA) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read attribute %s of the brick: %w", attribute, err)
	}
	return string(value[:n]), nil
}

// isEmpty reports whether a directory is empty, or has no more than what an interrupted
// run has created.
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
	case err == nil && len(names) == 1 && names[0] == markDir:
		return isEmpty(root, name+"/"+markDir)
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
		return fmt.Errorf("sync brick: %w", err)
	}
	return nil
}
