package filesystem

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ioctls of XFS and ext4 (xfs_fs.h and ext4.h of Linux 6).
const (
	ioctlGeometry = 0x8100587e // XFS_IOC_FSGEOMETRY, _IOR('X', 126, struct xfs_fsop_geom)
	ioctlGrowXFS  = 0x4010586e // XFS_IOC_FSGROWFSDATA, _IOW('X', 110, struct xfs_growfs_data)
	ioctlGrowExt4 = 0x40086610 // EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64)
	ioctlShutdown = 0x8004587d // EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN, _IOR('X', 125, __u32)
	shutdownNoLog = 2          // do not write the log: the device no longer works
)

// geometry is the head of struct xfs_fsop_geom.
type geometry struct {
	blockSize, _, _, _, _, _, _ uint32
	maxInodes                   uint32 // per cent of space
	dataBlocks                  uint64
	_                           [216]byte
}

func growXFS(in *os.File, size int64) error {
	var g geometry
	if err := ioctl(in, ioctlGeometry, &g); err != nil {
		return err
	}
	want := struct {
		blocks    uint64
		maxInodes uint32
		_         uint32
	}{blocks: uint64(size) / uint64(g.blockSize), maxInodes: g.maxInodes}
	if want.blocks <= g.dataBlocks {
		return nil
	}
	return ioctl(in, ioctlGrowXFS, &want)
}

// Offsets of the size in ext4's superblock (struct ext4_super_block of fs/ext4/ext4.h).
const (
	ext4Superblock = 1024
	ext4BlocksLow  = 0x4
	ext4BlockSize  = 0x18 // log2 of it, less 10
	ext4BlocksHigh = 0x150
)

func growExt4(in *os.File, device string, size int64) error {
	d, err := os.Open(device)
	if err != nil {
		return err
	}
	defer d.Close()
	blocks, larger, err := blocksOf(d, size)
	if err != nil || !larger {
		return err
	}
	return ioctl(in, ioctlGrowExt4, &blocks)
}

// blocksOf returns how many blocks an ext4 on a device of this size can have, and whether that is
// more than it has.
func blocksOf(device *os.File, size int64) (blocks uint64, larger bool, err error) {
	super := make([]byte, 1024)
	if _, err := device.ReadAt(super, ext4Superblock); err != nil {
		return 0, false, fmt.Errorf("read the superblock of %s: %w", device.Name(), err)
	}
	number := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(super[at:])) }
	blocks = uint64(size) >> (10 + number(ext4BlockSize)&0x1f)
	return blocks, blocks > number(ext4BlocksHigh)<<32|number(ext4BlocksLow), nil
}

func ioctl[T any](in *os.File, call uintptr, argument *T) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, in.Fd(), call, uintptr(unsafe.Pointer(argument)))
	if errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
