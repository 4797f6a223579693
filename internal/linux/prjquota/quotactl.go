package prjquota

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From <linux/quota.h> and <linux/dqblk_xfs.h>. The commands are those of XFS, which the kernel
// supports for ext4 too.
const (
	projectQuota  = 2                    // PRJQUOTA
	commandShift  = 8                    // QCMD: command << 8 | type
	commandGet    = 0x5800 + 3           // Q_XGETQUOTA, XQM_CMD(3)
	commandSet    = 0x5800 + 4           // Q_XSETQLIM, XQM_CMD(4)
	commandState  = 0x5800 + 8           // Q_XGETQSTATV, XQM_CMD(8)
	quotaVersion  = 1                    // FS_DQUOT_VERSION
	stateVersion  = 1                    // FS_QSTATV_VERSION1
	ofProject     = 2                    // FS_PROJ_QUOTA
	setBlocks     = 1<<2 | 1<<3          // FS_DQ_BSOFT | FS_DQ_BHARD
	stateEnforced = 1 << 5               // FS_QUOTA_PDQ_ENFD
	block         = 512                  // XFS counts in "basic blocks"
	maxBytes      = 1<<63 - 1            // largest size in Kubernetes
	sysQuotactlFD = unix.SYS_QUOTACTL_FD // Linux 5.14
	kernelNeeded  = "quotactl_fd needs Linux 5.14"
)

// diskQuota is struct fs_disk_quota: limits and counts of one project.
type diskQuota struct {
	version                                   int8
	flags                                     int8 // ofProject
	mask                                      uint16
	id                                        uint32
	blockHard, blockSoft, inodeHard, inodeSft uint64
	blocks, inodes                            uint64
	inodeTimer, blockTimer                    int32
	inodeWarns, blockWarns                    uint16
	inodeTimerHigh, blockTimerHigh, rtHigh, _ int8
	rtHard, rtSoft, rtBlocks                  uint64
	rtTimer                                   int32
	rtWarns                                   uint16
	_                                         int16
	_                                         [8]int8
}

// quotaFile is struct fs_qfilestatv.
type quotaFile struct {
	inode, blocks uint64
	extents, _    uint32
}

// quotaState is struct fs_quota_statv.
type quotaState struct {
	version               int8
	_                     uint8
	flags                 uint16
	incore                uint32
	user, group, project  quotaFile
	blockTime, inodeTime  int32
	rtTime                int32
	blockWarns, inodeWarn uint16
	rtWarns, _            uint16
	_                     uint32
	_                     [7]uint64
}

// enforced reports whether the file system enforces limits of projects.
func enforced(root *os.File) (bool, error) {
	s := quotaState{version: stateVersion}
	err := quotactl(root, commandState, 0, unsafe.Pointer(&s))
	if errors.Is(err, unix.ENOSYS) {
		return false, fmt.Errorf("the kernel does not support it (%s)", kernelNeeded)
	}
	return s.flags&stateEnforced != 0, err
}

// setLimit limits a project; 0 removes the limit.
func setLimit(root *os.File, id uint32, bytes uint64) error {
	blocks := (min(bytes, maxBytes) + block - 1) / block
	q := diskQuota{
		version: quotaVersion, flags: ofProject, mask: setBlocks, id: id, blockHard: blocks,
		blockSoft: blocks,
	}
	return quotactl(root, commandSet, id, unsafe.Pointer(&q))
}

// usage reads the usage of a project; ErrNone when the file system has no record of it.
func usage(root *os.File, id uint32) (Usage, error) {
	var q diskQuota
	err := quotactl(root, commandGet, id, unsafe.Pointer(&q))
	if errors.Is(err, unix.ENOENT) {
		return Usage{}, ErrNone
	}
	return Usage{Bytes: q.blocks * block, Limit: q.blockHard * block, Files: q.inodes}, err
}

func quotactl(root *os.File, command, id uint32, data unsafe.Pointer) error {
	what := uintptr(command<<commandShift | projectQuota)
	_, _, errno := unix.Syscall6(sysQuotactlFD, root.Fd(), what, uintptr(id), uintptr(data), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("quotactl_fd", errno)
	}
	return nil
}
