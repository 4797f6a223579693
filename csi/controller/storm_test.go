package controller

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/internal/testbed"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// TestConcurrentCalls has 64 callers create, expand, list and delete at once, with repeats and
// conflicts. Afterwards records, directories and the ledgers agree.
func TestConcurrentCalls(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"}, entry.Entry{Pool: "q"})
	var wait sync.WaitGroup
	for worker := range 64 {
		wait.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 80 {
				code, message := b.callAtRandom(random)
				if !slices.Contains([]codes.Code{codes.OK, codes.Aborted, codes.NotFound, codes.AlreadyExists}, code) {
					t.Errorf("%s: %s", code, message)
				}
			}
		})
	}
	wait.Wait()
	seen := map[string]string{} // pools by volume
	for _, pool := range []string{"p", "q"} {
		b.checkConsistent(pool, seen)
	}
	if len(seen) == 0 {
		t.Error("no volume is left to compare")
	}
}

func (b *bed) callAtRandom(random *rand.Rand) (code codes.Code, message string) {
	name := fmt.Sprint("v", random.IntN(200))
	id := fmt.Sprintf("v1.dir.%s.%s", []string{"p", "q"}[random.IntN(2)], name)
	switch random.IntN(5) {
	case 0, 1:
		_, code, message = b.create(newRequest(name, int64(1+random.IntN(3))<<20, map[string]string{"pool": "p,q"}))
	case 2:
		_, code, message = testbed.Call(b.Bed, b.server.DeleteVolume, &csi.DeleteVolumeRequest{VolumeId: id})
	case 3:
		_, code, message = testbed.Call(b.Bed, b.server.ControllerExpandVolume,
			&csi.ControllerExpandVolumeRequest{
				VolumeId:      id,
				CapacityRange: &csi.CapacityRange{RequiredBytes: int64(1+random.IntN(9)) << 20},
			})
	case 4:
		_, code, message = testbed.Call(b.Bed, b.server.ListVolumes, &csi.ListVolumesRequest{})
	}
	return code, message
}

// checkConsistent compares the records of a pool with its directories and its ledger, and with
// the volumes of other pools.
func (b *bed) checkConsistent(pool string, seen map[string]string) {
	b.Helper()
	h := b.Open(pool, schema.Subdirectory)
	volumes, err := h.Backend.List(b.Context())
	l, ledgerErr := b.server.ledgers.Of(b.Context(), h)
	if err = errors.Join(err, ledgerErr); err != nil {
		b.Fatal(err)
	}
	sum := int64(0)
	for _, v := range volumes {
		sum += v.Size
		if other, twice := seen[v.Name]; twice {
			b.Errorf("volume %s is in %s and in %s", v.Name, other, pool)
		}
		seen[v.Name] = pool
	}
	dirs, err := filepath.Glob(filepath.Join(b.Mounts.Dir, pool, "subvol/*/*/*"))
	provisioned, n := l.Provisioned()
	if err != nil || len(dirs) != len(volumes) || provisioned != sum || n != len(volumes) {
		b.Errorf("pool %s: %d directories, %d records with %d bytes, the ledger has %d bytes in %d volumes", pool,
			len(dirs), len(volumes), sum, provisioned, n)
	}
}
