package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/internal/testbed"
	"github.com/atoll-storage/atoll/internal/linux/loop/looptest"
	"github.com/atoll-storage/atoll/schema"
)

const blockID = "v1.block.p.v"

// oneDevice are Devices with one volume, which is a file of this machine.
type oneDevice struct {
	blockdev.Device
	refuses  error // of Attach
	attached bool
}

func (d *oneDevice) Attach(context.Context, string, string) (blockdev.Device, error) {
	if d.refuses != nil {
		return blockdev.Device{}, d.refuses
	}
	d.attached = true
	return d.Device, nil
}

func (d *oneDevice) Detach(context.Context, string, string) error {
	d.attached = false
	return nil
}

func (d *oneDevice) MarkFormatted(_ context.Context, _, _, fileSystem string) error {
	d.Formatted = fileSystem
	return nil
}

func (d *oneDevice) Grow(context.Context, string, string) (blockdev.Device, error) {
	return d.Device, nil
}
func (d *oneDevice) Lost(context.Context) (blockdev.Losses, error) { return blockdev.Losses{}, nil }

// newBlockBed is a node with a block volume that is to have ext4.
func newBlockBed(t *testing.T) (*bed, *oneDevice) {
	t.Helper()
	b := newBed(t, schema.Subdirectory)
	_, device, label := looptest.Attach(t, 64<<20)
	d := &oneDevice{Device: blockdev.Device{Path: device.Name(), Label: label, Size: 64 << 20, FileSystem: "ext4"}}
	b.server.config.Devices = d
	return b, d
}

func (b *bed) stageBlockAs(fsType string) (codes.Code, string) {
	c := testbed.Mounted(testbed.ReadWriteOncePod)
	c.GetMount().FsType = fsType
	_, code, message := testbed.Call(b.Bed, b.server.NodeStageVolume, &csi.NodeStageVolumeRequest{
		VolumeId: blockID, StagingTargetPath: b.stagingPath(blockID), VolumeCapability: c,
	})
	return code, message
}

// TestFailedStageDetaches: a volume that cannot be staged is not locked for other nodes. The kubelet
// would not unstage it.
func TestFailedStageDetaches(t *testing.T) {
	b, d := newBlockBed(t)
	if code, message := b.stageBlockAs("xfs"); code != codes.InvalidArgument || d.attached {
		t.Errorf("another file system: %s, %s; attached: %t", code, message, d.attached)
	}
	d.Formatted = "ext4" // which is not true
	if code, message := b.stageBlockAs(""); code != codes.FailedPrecondition || d.attached ||
		!strings.Contains(message, "e2fsck") {
		t.Errorf("a damaged file system: %s, %s; attached: %t", code, message, d.attached)
	}
	d.Formatted, d.FormatOptions = "", "-O no-such-feature"
	if code, message := b.stageBlockAs(""); code == codes.OK || d.attached {
		t.Errorf("options that mkfs refuses: %s, %s; attached: %t", code, message, d.attached)
	}
	d.FormatOptions = ""
	if code, message := b.stageBlockAs(""); code != codes.OK || !d.attached {
		t.Errorf("%s, %s; attached: %t", code, message, d.attached)
	}
}

// TestCheckOutlivesCall: a check of a file system that takes longer than a call goes on, and the next
// call has its result. It is neither begun again nor taken for damage, and the volume stays
// attached.
func TestCheckOutlivesCall(t *testing.T) {
	b, d := newBlockBed(t)
	if out, err := exec.Command("mkfs.ext4", "-q", d.Path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d.Formatted = "ext4"
	real, err := exec.LookPath("e2fsck")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	goOn, begun := filepath.Join(bin, "go-on"), filepath.Join(bin, "begun")
	script := fmt.Sprintf("#!/bin/sh\necho >>%s\nwhile ! [ -e %s ]; do sleep 0.05; done\nexec %s \"$@\"\n", begun,
		goOn, real)
	if err := os.WriteFile(filepath.Join(bin, "e2fsck"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	device, err := b.server.config.Devices.Attach(t.Context(), "p", "v")
	if err != nil {
		t.Fatal(err)
	}
	volume, err := readRequest(blockID, testbed.Mounted(testbed.ReadWriteOncePod))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := b.server.stageBlock(ctx, volume, b.stagingPath(blockID), testbed.Mounted(testbed.ReadWriteOncePod))
		cancel()
		if !errors.Is(err, errFormatting) || !errors.Is(err, context.DeadlineExceeded) || !d.attached {
			t.Errorf("while the check runs: %v; attached: %t", err, d.attached)
		}
	}
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, message := b.stageBlockAs(""); code != codes.OK {
		t.Errorf("after the check: %s, %s", code, message)
	}
	if text, err := os.ReadFile(begun); err != nil || strings.Count(string(text), "\n") != 1 {
		t.Errorf("%s was checked %d times, %v", device.Path, strings.Count(string(text), "\n"), err)
	}
}

// TestPublishAfterLoss: a staged volume that was lost, and whose mount is gone, is staged again by the
// next call: the kubelet believes that it is staged. One that was never staged is refused.
func TestPublishAfterLoss(t *testing.T) {
	b, d := newBlockBed(t)
	c := testbed.Mounted(testbed.ReadWriteOncePod)
	if _, code, message := b.publish(blockID, "one", c, false); code != codes.FailedPrecondition {
		t.Errorf("never staged: %s, %s", code, message)
	}
	staging := b.stagingPath(blockID)
	if err := os.MkdirAll(staging, 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"driverName":%q,"volumeHandle":%q}`, schema.DriverName, blockID)
	if err := os.WriteFile(filepath.Join(filepath.Dir(staging), "vol_data.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.refuses = blockdev.ErrOpen // something has the device of the lost volume open
	if _, code, message := b.publish(blockID, "one", c, false); code != codes.Unavailable {
		t.Errorf("while the device is open: %s, %s", code, message)
	}
	d.refuses = nil
	if path := b.mustPublish(blockID, "one", c, false); b.stacked(path) != 1 || b.stacked(staging) != 1 {
		t.Error("the volume is not mounted")
	}
}
