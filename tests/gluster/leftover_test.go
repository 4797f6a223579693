package gluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestLeftOnOneBrick deletes a volume that has files on one brick only, as after a power failure.
// They are deleted too.
func TestLeftOnOneBrick(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica3, 3, nil)
	c.Heal()
	mounted := c.Mount("all", volfile.Client)
	root, err := safepath.Open(mounted)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	s := backend.Subdirectory{Root: root}
	if _, err := s.Create(t.Context(), backend.CreateRequest{
		Request: "pvc-1", Name: "pvc-1", Size: 1 << 20,
		Reclaim: schema.ReclaimDelete,
	}); err != nil {
		t.Fatal(err)
	}
	folder := s.Place("pvc-1")
	if err := os.MkdirAll(filepath.Join(mounted, folder, "b/c"), 0o777); err != nil {
		t.Fatal(err)
	}
	// A client with only the first brick in its graph marks nothing for healing.
	alone := c.Mount("alone", firstBrick)
	for _, name := range []string{"N.part", "b/N.part", "b/c/N.part"} {
		if err := os.WriteFile(filepath.Join(alone, folder, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "pvc-1"); err != nil {
		t.Fatal(err)
	}
	if err := backend.Sweep(context.Background(), root, schema.Subdirectory, logr.Discard()); err != nil {
		t.Error(err)
	}
	for i, b := range c.Pool.Bricks {
		if left, err := os.ReadDir(filepath.Join(b.Directory, ".atoll/trash")); err != nil || len(left) > 0 {
			t.Errorf("brick %d still has %v in the trash, %v", i, left, err)
		}
	}
}

// firstBrick is a client graph with the first brick only.
func firstBrick(p volfile.Pool) (*volfile.Xlator, error) {
	x, err := volfile.Client(p)
	for y := x; err == nil; y = y.Subvolumes[0] {
		if y.Type == "cluster/distribute" {
			y.Subvolumes[0] = y.Subvolumes[0].Subvolumes[0]
			break
		}
	}
	return x, err
}
