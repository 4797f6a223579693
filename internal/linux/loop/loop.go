// Package loop attaches files to loop devices (loop(4)) with LOOP_CONFIGURE (Linux 5.8).
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
	// AutoClear detaches the file when the device is closed everywhere, such as after an
	// unmount.
	AutoClear = unix.LO_FLAGS_AUTOCLEAR
	// DirectIO bypasses the page cache of the file system that the file is on.
	DirectIO = unix.LO_FLAGS_DIRECT_IO
)

const (
	control  = "/dev/loop-control"
	attempts = 100 // other programs may use a free device first
)

// Attach attaches an open file to a device and returns the open device: with AutoClear the file
// is detached when the device is closed and unmounted everywhere. The device uses the same open
// file description, with its locks.
func Attach(file *os.File, flags uint32) (*os.File, error) {
	return AttachAs(file, "", flags, func(string) (bool, error) { return true, nil })
}

// AttachAs is Attach with a label of at most MaxLabel bytes that identifies the device. It skips
// devices, by path, that are not usable.
func AttachAs(file *os.File, label string, flags uint32, usable func(device string) (bool, error)) (*os.File, error) {
	info := unix.LoopInfo64{Flags: flags}
	if copy(info.File_name[:MaxLabel], label) < len(label) {
		return nil, fmt.Errorf("attach %s to a loop device: the label %q is longer than %d bytes",
			file.Name(), label, MaxLabel)
	}

	c, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("get a free loop device: %w", err)
	}
	defer c.Close()
	least := 0 // lower numbers are not usable
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
			return nil, fmt.Errorf("open a loop device: %w", err)
		}
		err = unix.IoctlLoopConfigure(int(d.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd()), Info: info})
		if err == nil {
			return d, nil
		}
		d.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach %s to a loop device: %w", file.Name(), os.NewSyscallError("ioctl", err))
		}
		if least > 0 {
			least = n + 1
		}
	}
	return nil, fmt.Errorf("attach %s to a loop device: %d loop devices are in use by other programs, or not usable",
		file.Name(), attempts)
}

// free returns the number of a device without a file, or least, if that is higher: it creates
// that device if it does not exist.
func free(control *os.File, least int) (int, error) {
	n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err == nil && n < least {
		n = least
		if err = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_ADD, n); errors.Is(err, unix.EEXIST) {
			err = nil
		}
	}
	if err != nil {
		return 0, fmt.Errorf("get a free loop device: %w", os.NewSyscallError("ioctl", err))
	}
	return n, nil
}

// Find returns the device that a file is attached to, by the file's inode and not by its name; ""
// when there is none.
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

// each calls f with each device that has a file, until f returns false.
func each(f func(d *os.File) bool) error {
	attached, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	for _, path := range attached {
		d, err := os.Open("/dev/" + filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err != nil {
			continue // it was removed
		}
		more := f(d)
		d.Close()
		if !more {
			break
		}
	}
	return nil
}

// kernelDevice encodes the st_dev of stat(2) as in a loop_info64: see new_encode_dev in
// <linux/kdev_t.h>.
func kernelDevice(dev uint64) uint64 {
	major, minor := uint64(unix.Major(dev)), uint64(unix.Minor(dev))
	return minor&0xff | major<<8 | (minor&^0xff)<<12
}
