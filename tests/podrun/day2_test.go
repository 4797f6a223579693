package podrun_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/bricks"
	"github.com/atoll-storage/atoll/tests/podrun"
)

// plain is the document of a pool named fast whose bricks 0 to n-1 are folders of the
// nodes kube1 to kube<n>.
func plain(t *testing.T, kind string, n int, more string) *schema.Pool {
	t.Helper()
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("{node: kube%d, path: /srv/b}", i+1))
	}
	return document(t, fmt.Sprintf(`{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast},
  spec: {type: %s, bricks: [%s], %s}}`, kind, strings.Join(list, ", "), more))
}

// brickFolder is that of brick i of such a pool.
func brickFolder(c *podrun.Cluster, i int) string {
	return c.NodePath(fmt.Sprintf("kube%d", i+1), "/srv/b/brick")
}

// grow applies a pool with more bricks, and starts the pods of those.
func grow(t *testing.T, c *podrun.Cluster, p *schema.Pool, from int) {
	t.Helper()
	for i := from; i < len(p.Spec.Bricks); i++ {
		if err := os.MkdirAll(c.NodePath(p.Spec.Bricks[i].Node, "/srv/b"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, c, p)
	for i := from; i < len(p.Spec.Bricks); i++ {
		if err := c.Start(context.Background(), fmt.Sprintf("atoll-fast-%d-0", i)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLive changes options of a pool and adds a set to it, under a writer: bricks,
// self-heal daemons and clients take both while they run.
func TestLive(t *testing.T) {
	const options = `options: {network.ping-timeout: "5", diagnostics.brick-log-level: %s, diagnostics.client-log-level: %s}`
	c := startPool(t, plain(t, "Replica3", 3, fmt.Sprintf(options, "INFO", "INFO")), disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	before := bricks.Write(t, dir, "before", 20)
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	debugs := func(container string) bool {
		text, err := os.ReadFile(filepath.Join(c.Dir, "logs", "atoll-fast-0-0."+container+".log"))
		return err == nil && strings.Contains(string(text), "] D [")
	}
	if debugs("glusterfsd") || debugs("self-heal") {
		t.Error("the logs have more than was asked for")
	}
	pids := func() string {
		return fmt.Sprint(c.PID("atoll-fast-0-0", "glusterfsd"), c.PID("atoll-fast-0-0", "self-heal"))
	}
	was := pids()
	apply(t, c, plain(t, "Replica3", 3, fmt.Sprintf(options, "DEBUG", "INFO")))
	eventually(t, c, 20*time.Second, "the brick logs more", func() bool { return debugs("glusterfsd") })
	// Who serves the volfiles ends, and comes back.
	if err := c.Kill("atoll-fast-0-0", "volfiles"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if err := c.StartContainer(context.Background(), "atoll-fast-0-0", "volfiles"); err != nil {
		t.Fatal(err)
	}
	apply(t, c, plain(t, "Replica3", 3, fmt.Sprintf(options, "INFO", "DEBUG")))
	eventually(t, c, 30*time.Second, "the self-heal daemon logs more", func() bool { return debugs("self-heal") })

	grow(t, c, plain(t, "Replica3", 6, fmt.Sprintf(options, "INFO", "INFO")), 3)
	eventually(t, c, 30*time.Second, "the client has all bricks", func() bool { return podrun.Connected(dir) == 6 })
	if pids() != was {
		t.Errorf("processes %s, before %s", pids(), was)
	}
	// A folder that is made now uses both sets, and what daemons know is healed on both.
	both := filepath.Join(dir, "both")
	if err := os.Mkdir(both, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, brick := range []int{1, 4} {
		if err := c.Kill(fmt.Sprintf("atoll-fast-%d-0", brick), "glusterfsd"); err != nil {
			t.Fatal(err)
		}
	}
	during := bricks.Write(t, both, "during", 40)
	for _, brick := range []int{1, 4} {
		if err := c.StartContainer(context.Background(), fmt.Sprintf("atoll-fast-%d-0", brick), "glusterfsd"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, c, 90*time.Second, "the bricks that were away have what they missed", func() bool {
		found := map[int]int{}
		for name, sum := range during {
			for _, brick := range []int{1, 4} {
				text, err := os.ReadFile(filepath.Join(brickFolder(c, brick), "both", name))
				if err == nil && bricks.Checksum(text) == sum {
					found[brick]++
				}
			}
		}
		return found[1] > 0 && found[4] > 0 && found[1]+found[4] == len(during)
	})
	w.Finish(t)
	before.Verify(t, dir)
	during.Verify(t, both)
}
