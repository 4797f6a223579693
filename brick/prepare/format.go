package prepare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
)

// Offsets in the XFS superblock (xfs_format.h of Linux, struct xfs_dsb), in bytes.
const (
	xfsMagic      = "XFSB"
	xfsUUID       = 32
	xfsInProgress = 126 // 1 from the first write of mkfs.xfs to its last
	xfsHeader     = 512 // length of the part that is read here
)

// fileSystem returns the file system of a device, and creates one on a blank device.
// If an earlier run was interrupted while it did that, mkfs.xfs has left a superblock
// that is marked as in progress and has this brick's UUID: it is formatted again.
func (b Brick) fileSystem(ctx context.Context, path string, log logr.Logger) (string, error) {
	found, err := probe(ctx, path)
	if err != nil {
		return "", err
	}
	switch found {
	case "":
		if err := errors.Join(checkBlank(path), b.checkMayBeNew()); err != nil {
			return "", err
		}
		log.Info("the device is blank, creating a file system", "device", b.Device)
		return "xfs", b.format(ctx, path)
	case "xfs":
		unfinished, err := b.unfinished(path)
		if unfinished && err == nil {
			log.Info("creating the file system again that an earlier run left unfinished", "device", b.Device)
			err = b.format(ctx, path, "-f")
		}
		return "xfs", err
	case "ext4":
		return "ext4", nil
	}
	return "",
		fmt.Errorf("%w: %s has %s; only blank devices are formatted: if the content is not needed, run 'wipefs -a' and 'blkdiscard' (or dd of zeros) on it",
			ErrNoFileSystem, b.Device, found)
}

// deviceUUID is the UUID of the file system on a brick's device: the same in every run, and
// different for every brick, generation and device. XFS refuses a second file system with the UUID
// of one that is mounted, such as that of the disk that this one replaces.
func (b Brick) deviceUUID() uuid.UUID {
	return uuid.NewSHA1(b.VolumeID, fmt.Appendf(nil, "%s %d %s", b.position(), b.Generation, b.Device))
}

// unfinished reports whether an earlier run has left an unfinished XFS. One with
// another UUID is refused.
func (b Brick) unfinished(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, xfsHeader)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false, fmt.Errorf("read the superblock of %s: %w", b.Device, err)
	}
	if !bytes.HasPrefix(head, []byte(xfsMagic)) || head[xfsInProgress] == 0 {
		return false, nil
	}
	id := b.deviceUUID()
	if !bytes.Equal(head[xfsUUID:xfsUUID+len(id)], id[:]) {
		return false, fmt.Errorf("%w: %s has an unfinished XFS that another program began to create", ErrNoFileSystem,
			b.Device)
	}
	return true, nil
}

// format creates the brick's file system. mkfs.xfs itself checks once more for existing ones. It
// discards nothing (-K): a slow device takes longer for that than prepare may, and would begin again
// at every start.
func (b Brick) format(ctx context.Context, path string, more ...string) error {
	id := b.deviceUUID()
	cmd := exec.CommandContext(ctx, "mkfs.xfs",
		append(more, "-q", "-K", "-m", "uuid="+id.String(), "-i", "size=512", path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("create a file system on %s: %w: %s", b.Device, err, bytes.TrimSpace(out))
	}
	return nil
}

// Exit codes of 'blkid --probe' (blkid(8)).
const (
	blkidNothing   = 2
	blkidAmbiguous = 8
)

// probe identifies the content of a device with libblkid, which mkfs and mount use too.
// It returns the type of a file system, a description of anything else, "" for nothing.
func probe(ctx context.Context, path string) (string, error) {
	cmd := exec.CommandContext(ctx, "blkid", "--probe", "--output", "export", path)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() == blkidNothing:
		return "", nil
	case errors.As(err, &exit) && exit.ExitCode() == blkidAmbiguous:
		return "several signatures", nil
	default:
		return "", fmt.Errorf("probe the content of %s: %w", path, err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[name] = value
	}
	switch {
	case fields["USAGE"] == "filesystem" && fields["TYPE"] != "":
		return fields["TYPE"], nil
	case fields["TYPE"] != "":
		return fields["TYPE"] + " (" + fields["USAGE"] + ")", nil
	case fields["PTTYPE"] != "":
		return "a partition table (" + fields["PTTYPE"] + ")", nil
	}
	return "a signature that blkid has no name for", nil
}

// How much of a device must be zero to count as blank, in bytes: both ends, and
// samples between them.
const (
	blankEnd     = 1 << 20
	blankSamples = 256
	blankSample  = 4096
)

// checkBlank verifies that a device without a signature has no data either: an encrypted
// disk with a detached header has data but no signature.
func checkBlank(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read the size of %s: %w", path, err)
	}
	end := min(blankEnd, size)
	for _, part := range [][2]int64{{0, end}, {size - end, end}} {
		if err := checkZero(f, part[0], part[1]); err != nil {
			return err
		}
	}
	for i := range int64(blankSamples) {
		at := size / blankSamples * i
		if err := checkZero(f, at, min(blankSample, size-at)); err != nil {
			return err
		}
	}
	return nil
}

func checkZero(f *os.File, at, n int64) error {
	data := make([]byte, n)
	if _, err := f.ReadAt(data, at); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if i := bytes.IndexFunc(data, func(r rune) bool { return r != 0 }); i >= 0 {
		return fmt.Errorf("%w: %s has no signature, but data at byte %d; only blank devices are formatted: if the data is not needed, run 'blkdiscard' (or dd of zeros) on it",
			ErrNoFileSystem, f.Name(), at+int64(i))
	}
	return nil
}
