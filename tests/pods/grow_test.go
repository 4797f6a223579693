package pods

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// TestDiskGrows grows the disks of a pool, one while its brick serves and one while its pod is
// stopped. The pool has the space without further action.
func TestDiskGrows(t *testing.T) {
	t.Parallel()
	const small, large = 1 << 30, 2 << 30
	c := startPool(t, document(t, `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast},
  spec: {type: Replica1, bricks: [{node: kube1, device: /dev/sda}, {node: kube2, device: /dev/sda}]}}`), disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	files := bricks.Write(t, dir, "file", 10)
	size := func(path string) uint64 {
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err != nil {
			t.Errorf("read the size of %s: %v", path, err)
		}
		return fs.Blocks * uint64(fs.Frsize)
	}
	brick := func(node, index string) string {
		return filepath.Join(c.NodePath(node, "/var/lib/atoll/bricks/atoll-system.fast."+index), "data/brick")
	}
	if err := c.GrowDevice("kube1", "/dev/sda", large); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, "the brick that serves has grown", func() bool { return size(brick("kube1", "0")) > small })
	eventually(t, c, "its agent says so", func() bool {
		return strings.Contains(c.Log("atoll-fast-0-0", "agent"), "has grown with its device")
	})
	const pod = "atoll-fast-1-0"
	if err := c.Stop(pod); err != nil {
		t.Fatal(err)
	}
	if err := c.GrowDevice("kube2", "/dev/sda", large); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	if n := size(brick("kube2", "1")); n <= small {
		t.Errorf("the brick whose pod was started has %d bytes", n)
	}
	eventually(t, c, "the pool has grown", func() bool { return size(dir) > large+small })
	files.Verify(t, dir)
}
