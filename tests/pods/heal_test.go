package pods

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// document loads a pool document.
func document(t *testing.T, text string) *schema.Pool {
	t.Helper()
	r, err := loader.Load(context.Background(), loader.Options{Stdin: strings.NewReader(text)}, "-")
	if err != nil || len(r.Documents) != 1 || !r.Documents[0].Valid {
		t.Fatalf("load the document: %v %v", r.Diagnostics, err)
	}
	return withVolumeID(t, r.Documents[0].Pool)
}

// apply renders a pool and applies it to a cluster.
func apply(t *testing.T, c *podrun.Cluster, p *schema.Pool) {
	t.Helper()
	objects, err := render.Render(p, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(objects); err != nil {
		t.Fatal(err)
	}
}

// TestReplacedDisk replaces the disk of a brick on a node that keeps running, under a writer, as
// docs/day2.md says. The new brick is prepared, filled by the others without a request, and then counts
// as healed.
func TestReplacedDisk(t *testing.T) {
	t.Parallel()
	for name, brick := range map[string]string{
		"by a disk in another slot":    "device: /dev/sdb",
		"by a disk with the same name": "device: /dev/sda, generation: 2",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testReplacedDisk(t, brick)
		})
	}
}

func testReplacedDisk(t *testing.T, replaced string) {
	const text = `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast}, spec: {type: Replica3, bricks: [
  {node: kube1, device: /dev/sda}, {node: kube2, %s}, {node: kube3, device: /dev/sda}]}}`
	c := startPool(t, document(t, fmt.Sprintf(text, "device: /dev/sda")), disks)
	dir, deep, before := used(t, c, 30)
	if err := unix.Setxattr(dir, "trusted.test", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	l := startLister(dir, "trusted.test", []string{"a"}) // an empty brick must not answer
	const pod = "atoll-fast-1-0"
	if err := c.Delete(pod); err != nil {
		t.Fatal(err)
	}
	// The brick refuses a blank disk until the document says that the data is lost.
	brick := filepath.Join(c.NodePath("kube2", "/var/lib/atoll/bricks/atoll-system.fast.1"), "data/brick")
	if err := c.SwapDevice("kube2", "/dev/sda", 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background(), pod); err == nil ||
		!strings.Contains(err.Error(), "was created here before") {
		t.Errorf("with a blank disk: %v", err)
	}
	p := document(t, fmt.Sprintf(text, replaced))
	if _, err := c.AddDevice("kube2", "/dev/sdb", 1<<30); err != nil {
		t.Fatal(err)
	}
	apply(t, c, p)
	filled(t, c, pod, filepath.Join(brick, "a/b"), before)
	w.Finish(t)
	l.finish(t)
	eventually(t, c, "the new brick counts as healed", func() bool {
		_, err := unix.Getxattr(filepath.Join(brick, ".glusterfs"), "trusted.atoll.fresh", nil)
		return err == unix.ENODATA
	})
	connected(t, c, dir, 3)
	if err := c.Kill("atoll-fast-0-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	before.Verify(t, deep)
}

// filled starts the pod of a new brick, and waits until the brick has these files.
func filled(t *testing.T, c *podrun.Cluster, pod, dir string, files bricks.Files) {
	t.Helper()
	begin := time.Now()
	if err := c.Start(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, "the new brick has all files", func() bool { return contains(dir, files) })
	t.Logf("shown to be filled after %s", time.Since(begin).Round(time.Second/10))
}

// TestReplacedNode moves a brick to another node in the document, under a writer. The former
// node's data is lost.
func TestReplacedNode(t *testing.T) {
	t.Parallel()
	const text = `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast}, spec: {type: Replica3, bricks: [
  {node: kube1, path: /srv/b}, {node: %s, path: /srv/b}, {node: kube3, path: /srv/b}]}}`
	c := startPool(t, document(t, fmt.Sprintf(text, "kube2")), disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	before := bricks.Write(t, dir, "before", 30)
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	const pod = "atoll-fast-1-0"
	if err := c.Delete(pod); err != nil {
		t.Fatal(err)
	}
	p := document(t, fmt.Sprintf(text, "kube4"))
	if err := os.MkdirAll(c.NodePath("kube4", "/srv/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	apply(t, c, p)
	filled(t, c, pod, c.NodePath("kube4", "/srv/b/brick"), before)
	w.Finish(t)
	killWhenHealed(t, c, dir, "atoll-fast-0-0", "kube1", "kube3")
	before.Verify(t, dir)
}

// startOnPaths starts a pool of three bricks on paths.
func startOnPaths(t *testing.T, name, spec string) *podrun.Cluster {
	t.Helper()
	return startPool(t, document(t, fmt.Sprintf(
		`{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: %s}, spec: {%s,
  bricks: [{node: kube1, path: /srv/b}, {node: kube2, path: /srv/b}, {node: kube3, path: /srv/b}]}}`,
		name, spec)), disks)
}

// killWhenHealed kills the brick of a pod once no heals are pending on the bricks of these nodes
// and the mount at dir is connected to all three bricks.
func killWhenHealed(t *testing.T, c *podrun.Cluster, dir, pod string, nodes ...string) {
	t.Helper()
	eventually(t, c, "all is healed", func() bool {
		return !slices.ContainsFunc(nodes, func(node string) bool {
			return bricks.PendingOn(c.NodePath(node, "/srv/b/brick")) != 0
		})
	})
	connected(t, c, dir, 3)
	if err := c.Kill(pod, "glusterfsd"); err != nil {
		t.Fatal(err)
	}
}

// TestAllCutOff disconnects all bricks from the network. Calls return an error, and the mount works
// again when the bricks are connected, with everything that was synced.
func TestAllCutOff(t *testing.T) {
	t.Parallel()
	c := startOnPaths(t, "fast", "type: Replica3")
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	before := bricks.Write(t, dir, "before", 10)
	unix.Sync()
	connect := func(connected bool) {
		t.Helper()
		for _, pod := range c.Pods() {
			if err := c.Connect(pod, connected); err != nil {
				t.Fatal(err)
			}
		}
	}
	connect(false)
	begin := time.Now()
	if err := ends(t, "a write without bricks", func() error {
		return os.WriteFile(filepath.Join(dir, "during"), []byte("text"), 0o600)
	}); err == nil {
		t.Error("a write without bricks succeeded")
	}
	t.Logf("a write without bricks failed after %s", time.Since(begin).Round(time.Second/10))
	connect(true)
	begin = time.Now()
	eventually(t, c, "the mount works again", func() bool {
		return os.WriteFile(filepath.Join(dir, "after"), []byte("text"), 0o600) == nil
	})
	t.Logf("it works again after %s", time.Since(begin).Round(time.Second/10))
	before.Verify(t, dir)
}

// TestPartition disconnects a brick of a dispersed pool from the network, under a writer, and
// connects it again. An agent notices that and has the brick healed; the self-heal daemon by
// itself would do so within a minute.
func TestPartition(t *testing.T) {
	t.Parallel()
	c := startOnPaths(t, "bulk", "type: Disperse, disperse: {data: 2, redundancy: 1}")
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	w.Progress(t, 100)
	if err := c.Connect("atoll-bulk-2-0", false); err != nil {
		t.Fatal(err)
	}
	connected(t, c, dir, 2)
	w.Progress(t, 100)
	during := bricks.Write(t, dir, "during", 10)
	if err := c.Connect("atoll-bulk-2-0", true); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	first := c.NodePath("kube1", "/srv/b/brick")
	eventually(t, c, "the disconnected brick has the files that it missed", func() bool {
		for name := range during {
			a, errA := os.Stat(filepath.Join(first, name))
			b, errB := os.Stat(filepath.Join(c.NodePath("kube3", "/srv/b/brick"), name))
			if errA != nil || errB != nil || a.Size() != b.Size() {
				return false
			}
		}
		return true
	})
	t.Logf("healed after %s", time.Since(begin).Round(time.Second/10))
	eventually(t, c, "an agent has started a heal for the returned brick", func() bool {
		return slices.ContainsFunc(c.Pods(),
			func(pod string) bool { return strings.Contains(c.Log(pod, "agent"), `"brickReturned":true`) })
	})
	w.Finish(t)
	if w.Longest() > stallLimit {
		t.Errorf("a write took %s", w.Longest())
	}
	killWhenHealed(t, c, dir, "atoll-bulk-0-0", "kube1", "kube2")
	during.Verify(t, dir)
}

// TestClientCutOff disconnects one client from the network and connects it again. Its calls fail
// and then succeed again; another client is not affected.
func TestClientCutOff(t *testing.T) {
	t.Parallel()
	c := startOnPaths(t, "fast", "type: Replica3")
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	other, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	before := bricks.Write(t, dir, "before", 10)
	w := bricks.StartWriter(filepath.Join(other, "lines"))
	if err := c.ConnectClient(dir, false); err != nil {
		t.Fatal(err)
	}
	begin, lines := time.Now(), w.Lines()
	if err := ends(t, "a write of the disconnected client", func() error {
		return os.WriteFile(filepath.Join(dir, "during"), []byte("text"), 0o600)
	}); err == nil {
		t.Error("a write of the disconnected client succeeded")
	}
	t.Logf("a write of the disconnected client failed after %s", time.Since(begin).Round(time.Second/10))
	if more := w.Lines() - lines; more < 10 { // in 10 s, transport.tcp-user-timeout, or more
		t.Errorf("the other client wrote %d lines in that time", more)
	}
	// Files that the disconnected client had open are not blocked.
	if err := os.WriteFile(filepath.Join(other, "before-1"), []byte("by the other"), 0o600); err != nil {
		t.Error(err)
	}
	before["before-1"] = bricks.Checksum([]byte("by the other"))
	if err := c.ConnectClient(dir, true); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	eventually(t, c, "the client works again", func() bool {
		return os.WriteFile(filepath.Join(dir, "after"), []byte("text"), 0o600) == nil
	})
	t.Logf("it works again after %s", time.Since(begin).Round(time.Second/10))
	w.Finish(t)
	if w.Longest() > stallLimit {
		t.Errorf("a write of the other client took %s", w.Longest())
	}
	for _, at := range []string{dir, other} {
		before.Verify(t, at)
	}
	for _, node := range []string{"kube1", "kube2", "kube3"} {
		eventually(t, c, "all is healed on "+node,
			func() bool { return bricks.PendingOn(c.NodePath(node, "/srv/b/brick")) == 0 })
	}
}

// TestRollingRestart stops and starts all bricks of a pool one by one, under a writer, each when
// the one before is healed. Each ends on SIGTERM, and no write fails or stalls.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	c := startPool(t, plain(t, "Replica3", 3, `options: {}`), disks)
	dir, deep, before := used(t, c, 20)
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	for i, pod := range c.Pods() {
		begin := time.Now()
		if err := c.Stop(pod); err != nil {
			t.Fatalf("pod %s: %v", pod, err)
		}
		took := time.Since(begin)
		during := bricks.Write(t, deep, fmt.Sprintf("during-%d", i), 5)
		if err := c.Start(context.Background(), pod); err != nil {
			t.Fatal(err)
		}
		holds(t, c, i, "a/b", during)
		connected(t, c, dir, 3)
		eventually(t, c, "nothing is pending but the file that is being written", func() bool {
			for other := range 3 {
				if bricks.PendingOn(brickDir(c, other)) > 1 {
					return false
				}
			}
			return true
		})
		t.Logf("%s: ended after %s, healed after %s", pod, took.Round(time.Second/10),
			time.Since(begin).Round(time.Second/10))
		for name, sum := range during {
			before[name] = sum
		}
	}
	w.Finish(t)
	if w.Longest() > stallLimit {
		t.Errorf("a write took %s", w.Longest())
	}
	before.Verify(t, deep)
}
