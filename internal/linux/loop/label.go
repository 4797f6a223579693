package loop

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// MaxLabel is the longest label of a device, in bytes: LO_NAME_SIZE of <linux/loop.h>, less
// the zero at its end.
const MaxLabel = unix.LO_NAME_SIZE - 1

// Open opens a device of which the label is this one, or gives fs.ErrNotExist. As long as it
// is open, it is of the same file.
func Open(device, label string) (*os.File, error) {
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a loop device: %w", err)
	}
	is, err := labelOf(d)
	if err == nil && is != label {
		err = fmt.Errorf("%s is of something else: %w", device, os.ErrNotExist)
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
		return "", fmt.Errorf("the file of %s does not answer: %w", d.Name(), err)
	}
	if err != nil {
		return "", fmt.Errorf("asking %s what it is of: %w", d.Name(), os.NewSyscallError("ioctl", err))
	}
	name, _, _ := bytes.Cut(info.File_name[:], []byte{0})
	return string(name), nil
}

// Labelled lists the devices, by path, whose label a function wants.
func Labelled(want func(label string) bool) ([]string, error) {
	var devices []string
	err := each(func(d *os.File) bool {
		if label, err := labelOf(d); err == nil && want(label) {
			devices = append(devices, d.Name())
		}
		return true
	})
	return devices, err
}

// Detach takes the file from a device: at once when nobody else has it open, else when
// nobody has any more.
func Detach(d *os.File) error {
	err := unix.IoctlSetInt(int(d.Fd()), unix.LOOP_CLR_FD, 0)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detaching %s: %w", d.Name(), os.NewSyscallError("ioctl", err))
	}
	return nil
}

// Attached tells whether a device, by path, may still have a file under this label. The
// kernel asks the file before it tells the label: that of one that does not answer is not
// known.
func Attached(device, label string) bool {
	d, err := Open(device, label)
	if err == nil {
		d.Close()
	}
	return !errors.Is(err, os.ErrNotExist)
}

// Refresh makes a device as large as its file is by now.
func Refresh(d *os.File) error {
	if err := unix.IoctlSetInt(int(d.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("telling %s its size: %w", d.Name(), os.NewSyscallError("ioctl", err))
	}
	return nil
}

// Fence lets nothing through to the file any more: the device ends after its first sector.
// What is under way is waited for. Label and flags are those that it was attached with: the
// kernel, asked for them, would ask the file, which may not answer any more.
func Fence(d *os.File, label string, flags uint32) error {
	info := &unix.LoopInfo64{Sizelimit: 512, Flags: flags}
	copy(info.File_name[:MaxLabel], label)
	err := unix.IoctlLoopSetStatus64(int(d.Fd()), info)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("fencing %s: %w", d.Name(), os.NewSyscallError("ioctl", err))
	}
	return nil
}
