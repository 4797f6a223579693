// Package filesystem makes, checks, mounts and grows the file systems of block devices: XFS
// and ext4.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kinds of file systems.
const (
	XFS  = "xfs"
	Ext4 = "ext4"
)

// MinSize is the smallest device, in bytes, that each kind can be made on: mkfs.xfs 6.1
// refuses less than 300 MiB, and ext4 with a journal needs some.
var MinSize = map[string]int64{XFS: 300 << 20, Ext4: 16 << 20}

// Errors.
var (
	ErrKind    = errors.New("the file system is not known")
	ErrOption  = errors.New("the option cannot be given")
	ErrDamaged = errors.New("the file system is damaged")
)

// makers are the programs, with what they are always told. The device has nothing that would
// have to be discarded, and sectors of 4 KiB are what is written to bricks best.
var makers = map[string][]string{
	XFS:  {"mkfs.xfs", "-q", "-f", "-K", "-s", "size=4096"},
	Ext4: {"mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", "-b", "4096"},
}

// allowed are the options of the programs that a class may have. None of them names another
// device or file.
var allowed = map[string]string{XFS: "-b -i -m -n -d -l", Ext4: "-b -i -I -N -m -E -O -T -J"}

// Options splits and checks options for the program that makes a file system.
func Options(kind, options string) ([]string, error) {
	words := strings.Fields(options)
	for i, w := range words {
		switch {
		case strings.ContainsAny(w, "/\\'\"") || strings.Contains(w, "dev=") || strings.Contains(w, "device=") || strings.Contains(w, "file"):
			return nil, fmt.Errorf("%w: %q names a file or device", ErrOption, w)
		case i%2 == 0 && !slices.Contains(strings.Fields(allowed[kind]), w):
			return nil, fmt.Errorf("%w: %q; for %s these can be: %s, each with a value", ErrOption, w, kind, allowed[kind])
		case i%2 == 1 && strings.HasPrefix(w, "-"):
			return nil, fmt.Errorf("%w: %q has no value", ErrOption, words[i-1])
		}
	}
	if len(words)%2 != 0 {
		return nil, fmt.Errorf("%w: %q has no value", ErrOption, words[len(words)-1])
	}
	return words, nil
}

// Make makes a file system on a device, whatever is on it.
func Make(ctx context.Context, device *os.File, kind, options string) error {
	maker := makers[kind]
	if maker == nil {
		return fmt.Errorf("%w: %q", ErrKind, kind)
	}
	words, err := Options(kind, options)
	if err != nil {
		return err
	}
	out, err := run(ctx, device, slices.Concat(maker, words))
	if err != nil {
		return fmt.Errorf("making %s on %s: %w: %s", kind, device.Name(), err, out)
	}
	if err := device.Sync(); err != nil {
		return fmt.Errorf("making %s on %s: %w", kind, device.Name(), err)
	}
	return nil
}

// run runs a program on an open device, which it finds as its fourth file: what is at the
// device's path does not matter.
func run(ctx context.Context, device *os.File, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], append(slices.Clone(args[1:]), "/proc/self/fd/3")...)
	cmd.ExtraFiles = []*os.File{device}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Exit codes of e2fsck(8) up to which the file system is in order.
const checkCorrected = 1

// Check repairs what can be repaired without losing anything, before a mount, and makes ext4
// as large as its device: mounted, it may not be allowed to grow. XFS does both when it is
// mounted. ErrDamaged when somebody must look.
func Check(ctx context.Context, device *os.File, kind string, size int64) error {
	if kind != Ext4 {
		return nil
	}
	if err := check(ctx, device); err != nil {
		return err
	}
	if _, larger, err := blocksOf(device, size); err != nil || !larger {
		return err
	}
	if err := check(ctx, device, "-f"); err != nil { // resize2fs asks for it
		return err
	}
	if out, err := run(ctx, device, []string{"resize2fs"}); err != nil {
		return fmt.Errorf("growing ext4 on %s: %w: %s", device.Name(), err, out)
	}
	return nil
}

func check(ctx context.Context, device *os.File, options ...string) error {
	out, err := run(ctx, device, append([]string{"e2fsck", "-p"}, options...))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() <= checkCorrected && exit.ExitCode() >= 0 {
		return nil
	}
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s; attach the volume raw and run 'e2fsck' by hand: %s", ErrDamaged, device.Name(), out)
	}
	return err
}

// Grow makes a mounted file system as large as its device, by a file or folder in it. One
// that is as large is left alone. The kernel lets only those grow ext4 who have
// CAP_SYS_RESOURCE.
func Grow(in *os.File, device, kind string, size int64) error {
	var err error
	switch kind {
	case XFS:
		err = growXFS(in, size)
	case Ext4:
		err = growExt4(in, device, size)
	default:
		return fmt.Errorf("%w: %q", ErrKind, kind)
	}
	if err != nil {
		return fmt.Errorf("growing %s to %d bytes: %w", kind, size, err)
	}
	return nil
}

// Shutdown lets nothing in or out of a mounted file system any more: all calls but those
// that close and unmount fail.
func Shutdown(in *os.File) error {
	flags := uint32(shutdownNoLog)
	err := ioctl(in, ioctlShutdown, &flags)
	if err != nil && !errors.Is(err, unix.EIO) { // it was shut down already
		return fmt.Errorf("shutting down a file system: %w", err)
	}
	return nil
}
