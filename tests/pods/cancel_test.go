package pods

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// withoutRange lists the directories that place no file on a brick.
func withoutRange(c *podrun.Cluster, brick int, dirs []string) []string {
	var all []string
	for _, dir := range dirs {
		value := make([]byte, 64) // number and type of hashes, start and end of the range
		n, err := unix.Lgetxattr(filepath.Join(brickDir(c, brick), dir), "trusted.glusterfs.dht", value)
		if err != nil || n < 16 || binary.BigEndian.Uint64(value[8:]) == 0 {
			all = append(all, dir)
		}
	}
	return all
}

// recordedLayout is the layout that a brick has recorded.
func recordedLayout(c *podrun.Cluster, brick int) string {
	value := make([]byte, 64)
	n, _ := unix.Getxattr(filepath.Join(brickDir(c, brick), ondisk.GlusterDir), ondisk.LayoutAttribute, value)
	return string(value[:max(0, n)])
}

// TestCancelDecommission interrupts the removal of a set while files and directories are being moved
// off it, and cancels it. The pool is ready again only when all directories place files on both
// sets.
func TestCancelDecommission(t *testing.T) {
	t.Parallel()
	c := startPool(t, sets(t, 6, false), func(t *testing.T, c *podrun.Cluster, p *schema.Pool) {
		c.Secrets = agentKeys
		disks(t, c, p)
	})
	mount, err := c.Mount(t.Context(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	files := map[string]bricks.Files{}
	for i := range 60 {
		dir := fmt.Sprintf("d%d", i)
		if err := os.Mkdir(filepath.Join(mount, dir), 0o755); err != nil {
			t.Fatal(err)
		}
		files[dir] = bricks.Write(t, filepath.Join(mount, dir), dir, 10)
		dirs = append(dirs, dir)
	}
	const (
		pod    = "atoll-fast-rebalance-0"
		settle = time.Second
	)
	settled := func() bool { return c.Ready(pod) == nil }
	rebalancer(t, c, sets(t, 6, false), settle)
	eventually(t, c, "the pool is spread over both sets", settled)
	eventually(t, c, "the last brick has recorded the layout", func() bool {
		_, err := strconv.Atoi(recordedLayout(c, 5))
		return err == nil
	})
	former := recordedLayout(c, 5)
	if left := withoutRange(c, 3, dirs); len(left) > 0 {
		t.Fatalf("directories without a range: %v", left)
	}
	if err := c.Stop(pod); err != nil {
		t.Fatal(err)
	}
	rebalancer(t, c, sets(t, 6, true), settle)
	for begin := time.Now(); len(withoutRange(c, 3, dirs)) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > await.Limit {
			t.Fatal("no directory leaves the set")
		}
	}
	if err := c.Kill(pod, "rebalance"); err != nil {
		t.Fatal(err)
	}
	t.Logf("killed with %d of %d directories off the set, recorded %q", len(withoutRange(c, 3, dirs)), len(dirs),
		recordedLayout(c, 0))

	rebalancer(t, c, sets(t, 6, false), settle)
	eventually(t, c, "the pool is ready again", settled)
	if left := withoutRange(c, 3, dirs); len(left) > 0 {
		t.Errorf("ready, but %d of %d directories place no file on the set: %v", len(left), len(dirs), left)
	}
	for i := range 6 {
		eventually(t, c, "the bricks have recorded the layout", func() bool { return recordedLayout(c, i) == former })
	}
	for dir, written := range files {
		written.Verify(t, filepath.Join(mount, dir))
	}
}
