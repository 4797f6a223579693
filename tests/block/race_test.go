package block

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

var rounds = flag.Int("rounds", 1000, "rounds of the race for a volume")

// TestRace lets two nodes race for a volume. Never both get it, and each reads what the last winner
// wrote.
func TestRace(t *testing.T) {
	t.Parallel()
	c := start(t, "a", "b")
	c.create("pvc-1", "", size)
	mounters := make([]*mounts.Remote, 2)
	for i, n := range c.nodes {
		mounters[i] = mounts.NewRemote(n.h.Path("mounter.sock"))
		defer mounters[i].Close()
	}
	var won [2]int
	nobody := 0 // in a row
	before := uint64(0)
	begin := time.Now()
	for round := 1; round <= *rounds; round++ {
		var got [2]blockdev.Device
		var errs [2]error
		var both sync.WaitGroup
		for i, h := range mounters {
			both.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), await.Limit)
				defer cancel()
				got[i], errs[i] = h.Attach(ctx, "p", "pvc-1")
			})
		}
		both.Wait()
		if errs[0] == nil && errs[1] == nil {
			t.Fatalf("round %d: both nodes have the volume", round)
		}
		winner := -1
		for i, err := range errs {
			if err == nil {
				winner = i
			} else if !errors.Is(err, backend.ErrInUse) {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if winner < 0 {
			// Each had the lock of a brick that the other one wanted.
			if nobody++; nobody > 100 {
				t.Fatalf("round %d: nobody got the volume in %d rounds", round, nobody)
			}
			continue
		}
		nobody = 0
		won[winner]++
		left, err := exchange(got[winner].Path, uint64(round))
		if err != nil || left != before {
			t.Fatalf("round %d: read %d, the last winner wrote %d: %v", round, left, before, err)
		}
		before = uint64(round)
		must(t, mounters[winner].Detach(t.Context(), "p", "pvc-1"))
	}
	t.Logf("%d rounds in %s, won %v", *rounds, time.Since(begin).Round(time.Second), won)
}

// exchange reads a number from a device and writes another one.
func exchange(device string, number uint64) (uint64, error) {
	f, err := os.OpenFile(device, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	p := aligned()
	defer unix.Munmap(p)
	if _, err := f.ReadAt(p, page); err != nil {
		return 0, err
	}
	before := binary.LittleEndian.Uint64(p)
	binary.LittleEndian.PutUint64(p, number)
	if _, err := f.WriteAt(p, page); err != nil {
		return 0, err
	}
	return before, f.Sync()
}

// TestFormatKilled kills the plugin while it makes a file system. A volume is published only with a
// complete file system: one that was cut off is made again.
func TestFormatKilled(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"xfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := start(t, "a")
			a := c.nodes[0]
			const kills = 20
			id := c.create("pvc-1", kind, 2<<30)
			done := 0
			for range kills {
				result := make(chan error, 1)
				go func() {
					ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
					defer cancel()
					result <- a.tryPublish(ctx, id, capability(kind))
				}()
				select {
				case err := <-result:
					if err == nil {
						done++
					}
				case <-time.After(time.Duration(rand.IntN(60)) * time.Millisecond):
				}
				bricks.Stop(a.plugin)
				a.startPlugin()
				if done > 0 {
					break
				}
			}
			t.Logf("published %d times within %d kills", done, kills)
			a.takeOver(id, kind) // a killed mkfs may still have the device open
			must(t, os.WriteFile(a.target(id)+"/file", []byte("text"), 0o600))
			must(t, a.unpublish(id))
			a.takeOver(id, kind) // a killed mkfs may still have the device open
			if text, err := os.ReadFile(a.target(id) + "/file"); err != nil || string(text) != "text" {
				t.Errorf("%q, %v", text, err)
			}
			must(t, a.unpublish(id))
		})
	}
}

// TestThousandVolumes creates a thousand volumes, uses some at the same time, and deletes all.
func TestThousandVolumes(t *testing.T) {
	t.Parallel()
	c := start(t, "a")
	a := c.nodes[0]
	const volumes, used = 1000, 30
	ids := make([]string, volumes)
	begin := time.Now()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(20)
	for i := range volumes {
		g.Go(func() (err error) {
			ids[i], err = c.created(ctx, creation(fmt.Sprintf("pvc-%d", i), capability("ext4"), 64<<20))
			return err
		})
	}
	must(t, g.Wait())
	t.Logf("created %d volumes in %s", volumes, time.Since(begin).Round(time.Millisecond))
	begin = time.Now()
	for _, id := range ids[:used] {
		must(t, a.publish(id, "ext4"))
		must(t, os.WriteFile(a.target(id)+"/file", []byte(id), 0o600))
	}
	t.Logf("%d attached, formatted and mounted in %s", used, time.Since(begin).Round(time.Millisecond))
	for _, id := range ids[:used] {
		if text, err := os.ReadFile(a.target(id) + "/file"); err != nil || string(text) != id {
			t.Errorf("%s has %q: %v", id, text, err)
		}
		must(t, a.unpublish(id))
	}
	begin = time.Now()
	g, ctx = errgroup.WithContext(t.Context())
	g.SetLimit(20)
	for _, id := range ids {
		g.Go(func() error { return c.deleted(ctx, id) })
	}
	must(t, g.Wait())
	t.Logf("deleted in %s", time.Since(begin).Round(time.Millisecond))
	listed, err := c.controller.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	if err != nil || len(listed.GetEntries()) != 0 {
		t.Errorf("%d volumes remain: %v", len(listed.GetEntries()), err)
	}
}
