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

// Where the XFS superblock says what it is (xfs_format.h of Linux, struct xfs_dsb).
const (
	xfsMagic      = "XFSB"
	xfsUUID       = 32
	xfsInProgress = 126 // 1 from mkfs.xfs's first write to its last
	xfsHeader     = 512 // bytes of the superblock that matter here
)

// fileSystem gives the file system of a device, and makes one on a blank device. A
// device on which an earlier run was cut off while it made one is told by the
// superblock that mkfs.xfs writes first: it is marked as unfinished and has our UUID.
func (b Brick) fileSystem(ctx context.Context, path string, log logr.Logger) (string, error) {
	found, err := signature(ctx, path)
	if err != nil {
		return "", err
	}
	switch found {
	case "":
		if err := errors.Join(blank(path), b.mayBeNew()); err != nil {
			return "", err
		}
		log.Info("the device is blank: making a file system", "device", b.Device)
		return "xfs", b.format(ctx, path)
	case "xfs":
		unfinished, err := b.unfinished(path)
		if unfinished && err == nil {
			log.Info("finishing the file system that an earlier run began", "device", b.Device)
			err = b.format(ctx, path, "-f")
		}
		return "xfs", err
	case "ext4":
		return "ext4", nil
	}
	return "", fmt.Errorf("%w: %s has %s; nothing is formatted that is not blank: if nobody misses it, run 'wipefs -a' and 'blkdiscard' (or dd of zeros) on it",
		ErrNoFileSystem, b.Device, found)
}

// deviceUUID is that of the file system on a brick's device: the same for every run,
// and another one for every brick.
func (b Brick) deviceUUID() uuid.UUID { return uuid.NewSHA1(b.VolumeID, []byte(b.position())) }

// unfinished tells whether an XFS is half-made, by us. One that is half-made by
// somebody else is refused.
func (b Brick) unfinished(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	head := make([]byte, xfsHeader)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false, fmt.Errorf("reading %s: %w", b.Device, err)
	}
	if !bytes.HasPrefix(head, []byte(xfsMagic)) || head[xfsInProgress] == 0 {
		return false, nil
	}
	id := b.deviceUUID()
	if !bytes.Equal(head[xfsUUID:xfsUUID+len(id)], id[:]) {
		return false, fmt.Errorf("%w: %s has an XFS that somebody else began to make and did not finish", ErrNoFileSystem, b.Device)
	}
	return true, nil
}

// format makes the brick's file system. mkfs.xfs itself looks for others once more.
func (b Brick) format(ctx context.Context, path string, more ...string) error {
	id := b.deviceUUID()
	cmd := exec.CommandContext(ctx, "mkfs.xfs", append(more, "-q", "-m", "uuid="+id.String(), "-i", "size=512", path)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making a file system on %s: %w: %s", b.Device, err, bytes.TrimSpace(out))
	}
	return nil
}

// Exit codes of 'blkid --probe' (blkid(8)).
const (
	blkidNothing   = 2
	blkidAmbiguous = 8
)

// signature tells what a device has, by the library that mkfs and mount use: a file
// system's type, else what else there is in words, "" for nothing.
func signature(ctx context.Context, path string) (string, error) {
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
		return "", fmt.Errorf("looking for what is on %s: %w", path, err)
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
	return "a signature that blkid does not name", nil
}

// How much of a device must be zero for it to be blank, in bytes: its ends, and
// samples between.
const (
	blankEnd     = 1 << 20
	blankSamples = 256
	blankSample  = 4096
)

// blank holds that a device without a signature has no data either: an encrypted disk
// with its header elsewhere looks like that.
func blank(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("asking %s for its size: %w", path, err)
	}
	end := min(blankEnd, size)
	for _, part := range [][2]int64{{0, end}, {size - end, end}} {
		if err := zero(f, part[0], part[1]); err != nil {
			return err
		}
	}
	for i := range int64(blankSamples) {
		at := size / blankSamples * i
		if err := zero(f, at, min(blankSample, size-at)); err != nil {
			return err
		}
	}
	return nil
}

func zero(f *os.File, at, n int64) error {
	data := make([]byte, n)
	if _, err := f.ReadAt(data, at); err != nil {
		return fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	if i := bytes.IndexFunc(data, func(r rune) bool { return r != 0 }); i >= 0 {
		return fmt.Errorf("%w: %s has no signature, but data at byte %d; nothing is formatted that is not blank: if nobody misses it, run 'blkdiscard' (or dd of zeros) on it",
			ErrNoFileSystem, f.Name(), at+int64(i))
	}
	return nil
}
