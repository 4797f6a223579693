package csi

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/volume"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/bricks"
	"github.com/atoll-storage/atoll/tests/host"
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
	sizeOn := func(brick int) int64 {
		found, _ := filepath.Glob(filepath.Join(c.Pool.Bricks[brick].Directory, volume.Folder, "*/*/*"))
		text := make([]byte, 4096)
		for _, folder := range found {
			if n, err := unix.Getxattr(folder, volume.Attribute, text); err == nil {
				r, err := volume.Decode(text[:n])
				if err != nil {
					t.Fatal(err)
				}
				return r.Size
			}
		}
		return 0
	}
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
