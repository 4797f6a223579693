package pods

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestMoveReverted moves a brick to another node, and reverts that commit after the pool was
// written to. The former brick is refused, before clients see its old data, and the pool goes on
// with the other two. When the document moves the brick back to the newer one, it serves again.
func TestMoveReverted(t *testing.T) {
	t.Parallel()
	const text = `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast}, spec: {type: Replica3, bricks: [
  {node: kube1, path: /srv/b}, {node: %s, path: /srv/b}, {node: kube3, path: /srv/b}]}}`
	before, moved := document(t, fmt.Sprintf(text, "kube2")), document(t, fmt.Sprintf(text, "kube4"))
	c := startPool(t, before, disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	old := bricks.Write(t, dir, "old", 20)
	const pod = "atoll-fast-1-0"
	if err := c.Delete(pod); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(c.NodePath("kube4", "/srv/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	apply(t, c, moved)
	target := c.NodePath("kube4", "/srv/b/brick")
	filled(t, c, pod, target, old)
	eventually(t, c, "the new brick counts as healed", func() bool {
		_, err := unix.Getxattr(filepath.Join(target, ".glusterfs"), "trusted.atoll.fresh", nil)
		return err == unix.ENODATA
	})
	connected(t, c, dir, 3)
	for name := range old { // the former brick has files that were deleted since
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files := bricks.Write(t, dir, "new", 20)

	if err := c.Delete(pod); err != nil {
		t.Fatal(err)
	}
	apply(t, c, before)
	err = c.Start(context.Background(), pod)
	if err == nil || !strings.Contains(err.Error(), "another brick has replaced this one") {
		t.Errorf("the former brick: %v", err)
	}
	if log := c.Log(pod, "join"); !strings.Contains(log, "name another path") {
		t.Errorf("the log does not say what to do:\n%s", log)
	}
	files.Verify(t, dir)
	if names, err := os.ReadDir(dir); err != nil || len(names) != len(files) {
		t.Errorf("the pool has %d entries instead of %d, %v", len(names), len(files), err)
	}

	if err := c.Delete(pod); err != nil {
		t.Fatal(err)
	}
	apply(t, c, moved)
	if err := c.Start(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	killWhenHealed(t, c, dir, "atoll-fast-0-0", "kube1", "kube3")
	files.Verify(t, dir)
}
