// Package filesystem creates, checks, mounts and grows file systems on block devices: XFS and
// ext4.
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

// MinSize is the smallest size of a device for each kind, in bytes: mkfs.xfs 6.1 refuses less
// than 300 MiB, and ext4 with a journal needs some space.
var MinSize = map[string]int64{XFS: 300 << 20, Ext4: 16 << 20}

// Errors.
var (
	ErrKind    = errors.New("the file system is not supported")
	ErrOption  = errors.New("the option is not allowed")
	ErrDamaged = errors.New("the file system is damaged")
)

// makers are the programs with their fixed arguments. A new device has nothing to discard, and
// sectors of 4 KiB suit the writes to bricks best.
var makers = map[string][]string{
	XFS:  {"mkfs.xfs", "-q", "-f", "-K", "-s", "size=4096"},
	Ext4: {"mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=1,lazy_journal_init=1", "-b", "4096"},
}

// allowed are the options of the programs that a class may set. None of them names another
// device or file.
var allowed = map[string]string{XFS: "-b -i -m -n -d -l", Ext4: "-b -i -I -N -m -E -O -T -J"}

// Options splits and checks the arguments for the program that creates a file system.
func Options(kind, options string) ([]string, error) {
	args := strings.Fields(options)
	for i, arg := range args {
		switch {
		case strings.ContainsAny(arg, "/\\'\"") || strings.Contains(arg, "dev=") || strings.Contains(arg, "device=") ||
			strings.Contains(arg, "file"):
			return nil, fmt.Errorf("%w: %q names a file or device", ErrOption, arg)
		case i%2 == 0 && !slices.Contains(strings.Fields(allowed[kind]), arg):
			return nil, fmt.Errorf("%w: %q; allowed for %s: %s, each with a value", ErrOption, arg, kind, allowed[kind])
		case i%2 == 1 && strings.HasPrefix(arg, "-"):
			return nil, fmt.Errorf("%w: %q has no value", ErrOption, args[i-1])
		}
	}
	if len(args)%2 != 0 {
		return nil, fmt.Errorf("%w: %q has no value", ErrOption, args[len(args)-1])
	}
	return args, nil
}

// Make creates a file system on a device and overwrites what is on it.
func Make(ctx context.Context, device *os.File, kind, options string) error {
	maker := makers[kind]
	if maker == nil {
		return fmt.Errorf("%w: %q", ErrKind, kind)
	}
	args, err := Options(kind, options)
	if err != nil {
		return err
	}
	out, err := run(ctx, device, slices.Concat(maker, args))
	if err != nil {
		return fmt.Errorf("create %s on %s: %w: %s", kind, device.Name(), err, out)
	}
	if err := device.Sync(); err != nil {
		return fmt.Errorf("create %s on %s: %w", kind, device.Name(), err)
	}
	return nil
}

// run runs a program on an open device, which it inherits as file descriptor 3: another device
// may be at the device's path by then.
func run(ctx context.Context, device *os.File, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], append(slices.Clone(args[1:]), "/proc/self/fd/3")...)
	cmd.ExtraFiles = []*os.File{device}
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// checkCorrected is the highest exit code of e2fsck(8) for a file system without errors left.
const checkCorrected = 1

// Check prepares a file system for mounting. It repairs ext4 as far as that loses nothing, and
// grows it to its device: when it is mounted, growing may not be allowed. XFS does both when it
// is mounted. ErrDamaged when it must be repaired manually.
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
	if err := check(ctx, device, "-f"); err != nil { // resize2fs requires it
		return err
	}
	if out, err := run(ctx, device, []string{"resize2fs"}); err != nil {
		return fmt.Errorf("grow ext4 on %s: %w: %s", device.Name(), err, out)
	}
	return nil
}

func check(ctx context.Context, device *os.File, options ...string) error {
	out, err := run(ctx, device, append([]string{"e2fsck", "-p"}, options...))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() <= checkCorrected && exit.ExitCode() >= 0 {
		return nil
	}
	if errors.As(err, &exit) && exit.ExitCode() < 0 { // a signal, such as at the end of the context
		return fmt.Errorf("check ext4 on %s: e2fsck was ended: %w", device.Name(), errors.Join(ctx.Err(), err))
	}
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s; attach the volume raw and run 'e2fsck' manually: %s", ErrDamaged, device.Name(), out)
	}
	return err
}

// Grow grows a mounted file system, given by a file or directory in it, to the size of its
// device. It does nothing if it has that size. Growing ext4 needs CAP_SYS_RESOURCE.
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
		return fmt.Errorf("grow %s to %d bytes: %w", kind, size, err)
	}
	return nil
}

// Shutdown shuts down a mounted file system: all later calls fail except closing and unmounting.
func Shutdown(in *os.File) error {
	flags := uint32(shutdownNoLog)
	err := ioctl(in, ioctlShutdown, &flags)
	if err != nil && !errors.Is(err, unix.EIO) { // it was shut down already
		return fmt.Errorf("shut down a file system: %w", err)
	}
	return nil
}
