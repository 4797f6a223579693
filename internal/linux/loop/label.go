package loop

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MaxLabel is the longest label of a device, in bytes: LO_NAME_SIZE of <linux/loop.h> without the
// terminating zero.
const MaxLabel = unix.LO_NAME_SIZE - 1

// Open opens a device if it has this label; fs.ErrNotExist otherwise. While it is open, it keeps
// its file.
func Open(device, label string) (*os.File, error) {
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open a loop device: %w", err)
	}
	found, err := labelOf(d)
	if err == nil && found != label {
		err = fmt.Errorf("%s has another label: %w", device, os.ErrNotExist)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func labelOf(d *os.File) (string, error) {
	info, err := unix.IoctlLoopGetStatus64(int(d.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return "", fmt.Errorf("%s has no file: %w", d.Name(), os.ErrNotExist)
	}
	if errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.EIO) {
		return "", fmt.Errorf("the file of %s does not respond: %w", d.Name(), err)
	}
	if err != nil {
		return "", fmt.Errorf("read the label of %s: %w", d.Name(), os.NewSyscallError("ioctl", err))
	}
	name, _, _ := bytes.Cut(info.File_name[:], []byte{0})
	return string(name), nil
}

// Labelled returns the paths of the devices whose label matches.
func Labelled(match func(label string) bool) ([]string, error) {
	var devices []string
	err := each(func(d *os.File) bool {
		if label, err := labelOf(d); err == nil && match(label) {
			devices = append(devices, d.Name())
		}
		return true
	})
	return devices, err
}

// Detach detaches the file from a device, once the device is open nowhere else.
func Detach(d *os.File) error {
	err := unix.IoctlSetInt(int(d.Fd()), unix.LOOP_CLR_FD, 0)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", d.Name(), os.NewSyscallError("ioctl", err))
	}
	return nil
}

// Attached reports whether a device, by path, may still have a file with this label. The kernel
// queries the file before it returns the label, so the label of a file that does not respond is
// unknown.
func Attached(device, label string) bool {
	d, err := Open(device, label)
	if err == nil {
		d.Close()
	}
	return !errors.Is(err, os.ErrNotExist)
}

// Refresh updates the size of a device to that of its file.
func Refresh(d *os.File) error {
	if err := unix.IoctlSetInt(int(d.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("update the size of %s: %w", d.Name(), os.NewSyscallError("ioctl", err))
	}
	return nil
}

// Fence cuts a device off its file: the device ends after its first sector. It waits for I/O in
// progress. Label and flags are those that it was attached with: to return them, the kernel would
// query the file, which may no longer respond.
func Fence(d *os.File, label string, flags uint32) error {
	info := &unix.LoopInfo64{Sizelimit: 512, Flags: flags}
	copy(info.File_name[:MaxLabel], label)
	err := unix.IoctlLoopSetStatus64(int(d.Fd()), info)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("fence %s: %w", d.Name(), os.NewSyscallError("ioctl", err))
	}
	return nil
}
