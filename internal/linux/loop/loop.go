// Package loop makes block devices of files (loop(4)), by Linux 5.8's LOOP_CONFIGURE.
package loop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Flags of a device, LO_FLAGS_* of <linux/loop.h>.
const (
	// AutoClear detaches the file when nobody has the device open any more, such as
	// after an unmount.
	AutoClear = unix.LO_FLAGS_AUTOCLEAR
	// DirectIO passes by the page cache of the file's own file system.
	DirectIO = unix.LO_FLAGS_DIRECT_IO
)

const (
	control  = "/dev/loop-control"
	attempts = 100 // others may take the device that was free
)

// Attach makes a device of an open file and gives it open: with AutoClear the file is
// detached when it and all mounts of it are closed. The device uses the very description
// of the file that it was given, with the locks that are on it.
func Attach(file *os.File, flags uint32) (*os.File, error) {
	return AttachAs(file, "", flags, func(string) (bool, error) { return true, nil })
}

// AttachAs is Attach with a label, of at most MaxLabel bytes, by which the device is known.
// Devices, by path, that are not usable are passed over.
func AttachAs(file *os.File, label string, flags uint32, usable func(device string) (bool, error)) (*os.File, error) {
	info := unix.LoopInfo64{Flags: flags}
	if copy(info.File_name[:MaxLabel], label) < len(label) {
		return nil, fmt.Errorf("making a device of %s: the label %q is longer than %d bytes", file.Name(), label, MaxLabel)
	}

	c, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("asking for a loop device: %w", err)
	}
	defer c.Close()
	least := 0 // those below are not usable
	for range attempts {
		n, err := free(c, least)
		if err != nil {
			return nil, err
		}
		path := fmt.Sprintf("/dev/loop%d", n)
		if ok, err := usable(path); err != nil {
			return nil, err
		} else if !ok {
			least = n + 1
			continue
		}
		d, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return nil, fmt.Errorf("opening a loop device: %w", err)
		}
		err = unix.IoctlLoopConfigure(int(d.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd()), Info: info})
		if err == nil {
			return d, nil
		}
		d.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("making a device of %s: %w", file.Name(), os.NewSyscallError("ioctl", err))
		}
		if least > 0 {
			least = n + 1
		}
	}
	return nil, fmt.Errorf("making a device of %s: %d loop devices were taken by others, or are not usable", file.Name(), attempts)
}

// free gives the number of a device that had no file just now, or of the least one that may be
// used, which is made if it is not there.
func free(control *os.File, least int) (int, error) {
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err == nil && n < least {
		n = least
		if err = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_ADD, n); errors.Is(err, unix.EEXIST) {
			err = nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("asking for a loop device: %w", os.NewSyscallError("ioctl", err))
	}
	return n, nil
}

// Find gives the device that a file is attached to, by the file's inode and not by its
// name; "" when there is none.
func Find(file *os.File) (string, error) {
	var want unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &want); err != nil {
		return "", err
	}
	found := ""
	err := each(func(d *os.File) bool {
		info, err := unix.IoctlLoopGetStatus64(int(d.Fd()))
		if err == nil && info.Inode == want.Ino && info.Device == kernelDevice(want.Dev) {
			found = d.Name()
		}
		return found == ""
	})
	return found, err
}

// each opens the devices that have a file, one after the other, until look wants no more.
func each(look func(d *os.File) bool) error {
	attached, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	for _, path := range attached {
		d, err := os.Open("/dev/" + filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err != nil {
			continue // it has gone
		}
		more := look(d)
		d.Close()
		if !more {
			break
		}
	}
	return nil
}

// kernelDevice is how the kernel writes a device number within a loop_info64: what
// stat(2) calls st_dev, encoded by new_encode_dev in <linux/kdev_t.h>.
func kernelDevice(dev uint64) uint64 {
	major, minor := uint64(unix.Major(dev)), uint64(unix.Minor(dev))
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}
