package csi

import (
	"context"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestRecordsReachNewSets adds a set to a pool with a volume: its record comes onto the
// bricks of the new set, where agents look for it, and grows there too.
func TestRecordsReachNewSets(t *testing.T) {
	c := bricks.Start(t, schema.Replica3, 3, nil)
	h := host.New(t, c)
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	controller := h.Dial("controller.sock")
	id := h.Create(controller)
	c.Grow(3)
	c.Catalog(h.Catalog(), schema.Subdirectory)
	sizeOn := func(brick int) int64 { return sizeOn(t, c.Pool.Bricks[brick].Directory) }
	c.Eventually(60*time.Second, "the new bricks have the record", func() bool {
		return sizeOn(3) > 0 && sizeOn(4) == sizeOn(0) && sizeOn(5) == sizeOn(0)
	})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	size := 2 * sizeOn(0)
	if _, err := csi.NewControllerClient(controller).ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
		VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
	}); err != nil {
		t.Fatal(err)
	}
	if sizeOn(0) != size || sizeOn(4) != size {
		t.Errorf("%d bytes on the old set, %d on the new one, want %d", sizeOn(0), sizeOn(4), size)
	}
}

// sizeOn is the size in the record on the only volume of a brick, 0 when it has none.
func sizeOn(t *testing.T, brick string) int64 {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(brick, ondisk.Folder, "*/*/*"))
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

// TestRecordsReachSetsThatReplaceOthers removes a set and adds another one: as many as
// before, and yet one of them is without records.
func TestRecordsReachSetsThatReplaceOthers(t *testing.T) {
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
		c.Run(h.Build("atoll-brick"), "agent", "--namespace=atoll-system", "--pool=p", "--brick="+strconv.Itoa(i), "--directory="+b.Directory,
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
	c.Eventually(60*time.Second, "the records are on all sets", func() bool { return spread() == "2" && sizeOn(t, c.Pool.Bricks[1].Directory) > 0 })
	// What is on a set that replaces another: nothing.
	bricks.Stop(c.Bricks[1])
	c.Replace(1)
	c.Eventually(90*time.Second, "the records are on all sets again", func() bool { return spread() == "2" && sizeOn(t, c.Pool.Bricks[1].Directory) > 0 })
}
