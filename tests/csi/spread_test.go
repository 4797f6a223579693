package csi

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestRecordsReachNewSets adds a set to a pool with a volume. The volume's record is copied to the
// bricks of the new set, where agents read it, and is updated there when the volume grows.
func TestRecordsReachNewSets(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica3, 3, nil)
	h := host.New(t, c)
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	controller := h.Dial("controller.sock")
	id := h.Create(controller)
	c.Grow(3)
	c.Catalog(h.Catalog(), schema.Subdirectory)
	sizeOn := func(brick int) int64 { return sizeOn(t, c.Pool.Bricks[brick].Directory) }
	c.Eventually("the new bricks have the record", func() bool {
		return sizeOn(3) > 0 && sizeOn(4) == sizeOn(0) && sizeOn(5) == sizeOn(0)
	})
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	size := 2 * sizeOn(0)
	if err := await.Call(ctx, func(ctx context.Context) error { // refused while the record is being written
		_, err := csi.NewControllerClient(controller).ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
			VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if sizeOn(0) != size || sizeOn(4) != size {
		t.Errorf("%d bytes on the old set, %d on the new one, want %d", sizeOn(0), sizeOn(4), size)
	}
}

// sizeOn is the size in the record of the only volume on a brick, 0 without a record.
func sizeOn(t *testing.T, brick string) int64 {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(brick, ondisk.Subdirectories, "*/*/*"))
	text := make([]byte, 4096)
	for _, folder := range found {
		if n, err := unix.Getxattr(folder, ondisk.Attribute, text); err == nil {
			r, err := ondisk.Decode(text[:n])
			if err != nil {
				t.Fatal(err)
			}
			return r.Size
		}
	}
	return 0
}

// TestRecordsReachReplacedSets replaces a set with an empty one. The number of sets is the same, but
// one lacks the records.
func TestRecordsReachReplacedSets(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 2, nil)
	h := host.New(t, c)
	var ports []int
	for i, b := range c.Pool.Bricks {
		address := host.Address(t)
		_, port, _ := net.SplitHostPort(address)
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, n)
		c.Run(h.Build("atoll-brick"), "agent", "--namespace=atoll-system", "--pool=p", "--brick="+strconv.Itoa(i),
			"--directory="+b.Directory,
			"--port="+strconv.Itoa(b.Port), "--listen="+address, "--keys="+t.TempDir())
	}
	c.Agents(ports)
	c.Catalog(h.Catalog(), schema.Subdirectory)
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	h.Create(h.Dial("controller.sock"))
	spread := func() string {
		value := make([]byte, 16)
		n, err := unix.Getxattr(c.Pool.Bricks[1].Directory, ondisk.SpreadAttribute, value)
		if err != nil {
			return ""
		}
		return string(value[:n])
	}
	c.Eventually("the records are on all sets",
		func() bool { return spread() == "2" && sizeOn(t, c.Pool.Bricks[1].Directory) > 0 })
	// A set that replaces another is empty.
	bricks.Stop(c.Bricks[1])
	c.Replace(1)
	c.Eventually("the records are on all sets again",
		func() bool { return spread() == "2" && sizeOn(t, c.Pool.Bricks[1].Directory) > 0 })
}
