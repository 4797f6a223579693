package agent

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/filesystem"
)

// growEvery is how often the size of the brick's device is read.
const growEvery = 20 * time.Second

// sectorSize is the unit of sizes in sysfs, whatever the device's own (Documentation/block of
// Linux).
const sectorSize = 512

// Grow grows the brick's XFS to its device, now and whenever the device has grown, until the
// context ends. An ext4 grows when the pod starts: growing it needs a capability (SYS_RESOURCE)
// with which the agent could exceed quotas.
func (a *Agent) Grow(ctx context.Context) error {
	failed := false
	return repeat(ctx, growEvery, func() {
		err := a.grow()
		if err != nil && !failed {
			a.Log.Error(err, "growing the brick's file system")
		}
		failed = err != nil
	})
}

func (a *Agent) grow() error {
	brick, err := os.Open(a.Directory)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer brick.Close()
	var before, after unix.Statfs_t
	if err := unix.Fstatfs(int(brick.Fd()), &before); err != nil {
		return fmt.Errorf("read the size of the brick's file system: %w", err)
	}
	if before.Type != unix.XFS_SUPER_MAGIC {
		return nil
	}
	size, err := deviceSize(brick)
	if err != nil {
		return err
	}
	if err := filesystem.Grow(brick, "", filesystem.XFS, size); err != nil {
		return err
	}
	if err := unix.Fstatfs(int(brick.Fd()), &after); err == nil && after.Blocks > before.Blocks {
		a.Log.Info("the brick's file system has grown with its device", "bytes", after.Blocks*uint64(after.Frsize))
	}
	return nil
}

// deviceSize is the size of the device under a file, in bytes.
func deviceSize(in *os.File) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &st); err != nil {
		return 0, fmt.Errorf("find the brick's device: %w", err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/size", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return 0, fmt.Errorf("read the size of the brick's device: %w", err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the size of the brick's device: %w", err)
	}
	return sectors * sectorSize, nil
}
