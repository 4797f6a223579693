package gluster

import (
	"fmt"
	"sync"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestDeleteBesideSweep deletes volumes while the trash is swept without pause, on a client that
// is slow to tell what a file is: a volume that was swept before its deletion has ended is
// deleted.
func TestDeleteBesideSweep(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	slow, fast := open(t, c.Mount("slow", slowStat)), open(t, c.Mount("fast", volfile.Client))
	s := backend.Subdirectory{Root: slow}
	remove := func(name string) {
		request := backend.CreateRequest{Request: name, Name: name, Size: 1 << 20, Reclaim: schema.ReclaimDelete}
		if _, err := s.Create(t.Context(), request); err != nil {
			t.Errorf("create %s: %v", name, err)
		}
		if err := s.Delete(t.Context(), name); err != nil {
			t.Errorf("delete %s: %v", name, err)
		}
	}
	// The trash exists from here on: a client that looks a directory up while another client makes
	// it may keep a wrong GFID of it (ESTALE until it forgets the directory; seen once).
	remove("first")
	var deleting, sweeping sync.WaitGroup
	done := make(chan struct{})
	sweeping.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := backend.Sweep(t.Context(), fast, schema.Subdirectory, logr.Discard()); err != nil {
				t.Errorf("sweep: %v", err)
			}
		}
	})
	for caller := range 4 {
		deleting.Go(func() {
			for i := range 10 {
				remove(fmt.Sprintf("pvc-%d-%d", caller, i))
			}
		})
	}
	deleting.Wait()
	close(done)
	sweeping.Wait()
}

func open(t *testing.T, dir string) *safepath.Dir {
	root, err := safepath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// slowStat is a client graph that waits 20 ms before it asks a brick for the attributes of a
// file.
func slowStat(p volfile.Pool) (*volfile.Xlator, error) {
	x, err := volfile.Client(p)
	return &volfile.Xlator{
		Name: "slow", Type: "debug/delay-gen", Subvolumes: []*volfile.Xlator{x},
		Options: []volfile.Option{
			{Name: "delay-percentage", Value: "100"}, {Name: "delay-duration", Value: "20000"}, // microseconds
			{Name: "enable", Value: "stat,fstat"},
		},
	}, err
}
