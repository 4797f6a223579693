package prepare

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/mounted"
)

// diskSize is a little more than the minimum that mkfs.xfs accepts (300 MiB), in bytes.
const diskSize = 320 << 20

// newDiskBrick returns a brick on its own disk: a file behind a loop device.
func newDiskBrick(t *testing.T) Brick {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("creates file systems on loop devices: needs root and no -short")
	}
	for _, tool := range []string{"mkfs.xfs", "blkid"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: run make deps", tool)
		}
	}
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, diskSize))
	b := Brick{
		Pool: "p", Position: "0", VolumeID: uuid.MustParse("64220cb5-c301-41b1-b4f1-e5756b3171dc"),
		Directory: filepath.Join(dir, "mount/brick"), Device: disk,
	}
	t.Cleanup(func() { unmount(t, b) })
	return b
}

func unmount(t *testing.T, b Brick) {
	t.Helper()
	for target := filepath.Dir(b.Directory); ; {
		n, err := mounted.Count(target)
		must(t, err)
		if n == 0 {
			return
		}
		must(t, unix.Unmount(target, 0))
	}
}

// checkIsBrick verifies that the brick exists, on its own file system.
func checkIsBrick(t *testing.T, b Brick) {
	t.Helper()
	id := make([]byte, 16)
	if _, err := unix.Getxattr(b.Directory, xattrVolumeID, id); err != nil || uuid.UUID(id) != b.VolumeID {
		t.Errorf("the brick has the volume ID %x: %v", id, err)
	}
	if n, err := mounted.Count(filepath.Dir(b.Directory)); err != nil || n != 1 {
		t.Errorf("mounted %d times: %v", n, err)
	}
}

// TestBlankDisk creates a brick on a blank disk and finds it again with its data: while
// it is mounted, and after a reboot.
func TestBlankDisk(t *testing.T) {
	b := newDiskBrick(t)
	must(t, run(b))
	checkIsBrick(t, b)
	must(t, os.WriteFile(filepath.Join(b.Directory, "file"), []byte("text"), 0o600))
	must(t, run(b))
	unmount(t, b)
	must(t, run(b))
	checkIsBrick(t, b)
	if text, err := os.ReadFile(filepath.Join(b.Directory, "file")); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	unmount(t, b)
	other := b
	other.Position = "1"
	if err := run(other); !errors.Is(err, ErrForeign) ||
		!strings.Contains(err.Error(), "brick p/0, the document has it as p/1") {
		t.Errorf("as another brick: %v", err)
	}
}

// TestNothingIsDiscarded: to discard a whole disk can take hours.
func TestNothingIsDiscarded(t *testing.T) {
	b := newDiskBrick(t)
	disk, err := os.OpenFile(b.Device, os.O_RDWR, 0)
	must(t, err)
	defer disk.Close()
	must(t, unix.Fallocate(int(disk.Fd()), 0, 0, diskSize))
	must(t, run(b))
	var st unix.Stat_t
	must(t, unix.Fstat(int(disk.Fd()), &st))
	if allocated := st.Blocks * 512; allocated < diskSize {
		t.Errorf("%d of %d bytes are left on the disk", allocated, int64(diskSize))
	}
}

// TestMissingDiskIsNotFormatted: a blank disk under the name of the brick's disk is not formatted.
func TestMissingDiskIsNotFormatted(t *testing.T) {
	b := newDiskBrick(t)
	b.State, b.Place = t.TempDir(), "/dev/sdb"
	must(t, run(b))
	unmount(t, b)
	must(t, os.Truncate(b.Device, 0))
	must(t, os.Truncate(b.Device, diskSize))
	before := sum(t, b.Device)
	if err := run(b); !errors.Is(err, ErrMissing) {
		t.Errorf("error %v", err)
	}
	if sum(t, b.Device) != before {
		t.Error("the disk has changed")
	}
	b.Generation = 2
	must(t, run(b))
	checkIsBrick(t, b)
}

// TestForeignDiskIsRefused: a disk that is not blank is refused, the error names its content,
// and no byte of it changes.
func TestForeignDiskIsRefused(t *testing.T) {
	tool := func(name string, args ...string) func(t *testing.T, disk string) {
		return func(t *testing.T, disk string) {
			t.Helper()
			if _, err := exec.LookPath(name); err != nil {
				t.Skipf("%s is not installed", name)
			}
			if out, err := exec.Command(name, append(args, disk)...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
		}
	}
	write := func(at int64, data []byte) func(t *testing.T, disk string) {
		return func(t *testing.T, disk string) {
			t.Helper()
			f, err := os.OpenFile(disk, os.O_WRONLY, 0)
			must(t, err)
			defer f.Close()
			_, err = f.WriteAt(data, at)
			must(t, err)
		}
	}
	noise := make([]byte, 64<<10)
	_, _ = rand.Read(noise) // never fails
	for name, test := range map[string]struct {
		before func(t *testing.T, disk string)
		want   error
		says   string
	}{
		"swap":            {tool("mkswap"), ErrNoFileSystem, "swap"},
		"LVM":             {write(512, lvmLabel()), ErrNoFileSystem, "LVM2_member"},
		"partition table": {write(0, partitionTable()), ErrNoFileSystem, "a partition table (dos)"},
		"encrypted": {
			write(0, append([]byte("LUKS\xba\xbe\x00\x01"), make([]byte, 584)...)), ErrNoFileSystem,
			"crypto_LUKS",
		},
		"noise":            {write(0, noise), ErrNoFileSystem, "data at byte 0"},
		"noise at the end": {write(diskSize-4096, noise[:4096]), ErrNoFileSystem, "data at byte"},
		"noise within":     {write(diskSize/blankSamples*100, noise[:4096]), ErrNoFileSystem, "data at byte"},
		"another's mkfs": {func(t *testing.T, disk string) {
			tool("mkfs.xfs", "-q")(t, disk)
			write(xfsInProgress, []byte{1})(t, disk)
		}, ErrNoFileSystem, "another program began"},
		"files": {func(t *testing.T, disk string) {
			tool("mkfs.xfs", "-q")(t, disk)
			at := t.TempDir()
			tool("mount", "-o", "loop", disk)(t, at)
			must(t, os.WriteFile(filepath.Join(at, "letter"), []byte("text"), 0o600))
			must(t, unix.Unmount(at, 0))
		}, ErrForeign, "has letter and no brick"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newDiskBrick(t)
			test.before(t, b.Device)
			before := sum(t, b.Device)
			err := run(b)
			if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("error %v, want %v with %q", err, test.want, test.says)
			}
			// Mounting an XFS writes to its log, so the sum may differ.
			if name != "files" && sum(t, b.Device) != before {
				t.Error("the disk has changed")
			}
		})
	}
}

// lvmLabel is what pvcreate writes into the second sector: LABELONE, the sector number,
// a checksum of the rest, the offset of the header, and the type.
func lvmLabel() []byte {
	label := make([]byte, 512)
	copy(label, "LABELONE")
	binary.LittleEndian.PutUint64(label[8:], 1)
	binary.LittleEndian.PutUint32(label[20:], 32)
	copy(label[24:], "LVM2 001abcdefghijklmnopqrstuvwxyz012345")
	const begin = uint32(0xf597a6cf) // INITIAL_CRC of LVM2
	binary.LittleEndian.PutUint32(label[16:], ^crc32.Update(^begin, crc32.IEEETable, label[20:]))
	return label
}

// partitionTable is an MBR with one Linux partition.
func partitionTable() []byte {
	mbr := make([]byte, 512)
	copy(mbr[446:], []byte{0, 0x20, 0x21, 0, 0x83, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 0, 8, 0})
	mbr[510], mbr[511] = 0x55, 0xaa
	return mbr
}

func sum(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	must(t, err)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestAcceptsEmptyFileSystem: an administrator may format the disk before.
func TestAcceptsEmptyFileSystem(t *testing.T) {
	for _, mkfs := range []string{"mkfs.xfs", "mkfs.ext4"} {
		t.Run(mkfs, func(t *testing.T) {
			b := newDiskBrick(t)
			if out, err := exec.Command(mkfs, "-q", b.Device).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			must(t, run(b))
			checkIsBrick(t, b)
		})
	}
}

// crashVariable makes a copy of the test program prepare a brick and exit.
const crashVariable = "ATOLL_CRASH_TEST"

func TestMain(m *testing.M) {
	if disk := os.Getenv(crashVariable); disk != "" {
		b := Brick{
			Pool: "p", Position: "0", VolumeID: uuid.MustParse("64220cb5-c301-41b1-b4f1-e5756b3171dc"),
			Directory: os.Args[1], Device: disk,
		}
		if err := run(b); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(withOwnMounts(m))
}

// withOwnMounts runs the tests in a mount namespace of their own. A test of another package that
// makes namespaces would otherwise copy the mount of a disk and hold it, and XFS would refuse the
// next disk, which has the same UUID.
func withOwnMounts(m *testing.M) int {
	const variable = "ATOLL_OWN_MOUNTS"
	if os.Getuid() != 0 || os.Getenv(variable) != "" {
		return m.Run()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0], cmd.Env = os.Args[0], append(os.Environ(), variable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS} // and makes mounts private
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil {
		return 1
	}
	return 0
}

// TestKilledAtSystemCalls kills prepare, or the mkfs.xfs that it has started, at every kind
// of system call that changes something, and runs it again. The result is always a brick,
// and never a disk that prepare refuses.
func TestKilledAtSystemCalls(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed: run make deps")
	}
	kills := 0
	for _, call := range []string{
		"pwrite64", "fallocate", "fsync", "mount", "mkdirat", "fsetxattr", "renameat",
		"ioctl",
	} {
		for n := 1; ; n += 1 + n/4 { // mkfs.xfs writes some hundred times
			b := newDiskBrick(t)
			killed := runKilled(t, b, call, n)
			unmount(t, b) // as a reboot does
			if err := run(b); err != nil {
				t.Fatalf("killed at %s %d, then: %v", call, n, err)
			}
			checkIsBrick(t, b)
			unmount(t, b)
			if !killed {
				break
			}
			kills++
		}
	}
	t.Logf("killed at %d system calls", kills)
	if kills < 20 {
		t.Error("too few system calls to prove anything")
	}
}

// runKilled prepares the brick in child processes. The one that makes the n-th system
// call of a kind is killed; false if none gets there.
func runKilled(t *testing.T, b Brick, call string, n int) bool {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:error=EINTR:signal=SIGKILL:when=%d", call, n), self, b.Directory)
	cmd.Env = append(os.Environ(), crashVariable+"="+b.Device, "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL ||
		bytes.Contains(out, []byte("signal: killed")) {
		return true
	}
	t.Fatalf("%s %d: %v\n%s", call, n, err, out)
	return false
}
