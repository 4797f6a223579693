package pods

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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

// document loads one that is written for a test.
func document(t *testing.T, text string) *schema.Pool {
	t.Helper()
	r, err := loader.Load(context.Background(), loader.Options{Stdin: strings.NewReader(text)}, "-")
	if err != nil || len(r.Documents) != 1 || !r.Documents[0].Valid {
		t.Fatalf("loading the document: %v %v", r.Diagnostics, err)
	}
	return own(r.Documents[0].Pool)
}

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

// TestReplacedDisk replaces the disk of a brick in the document, under a writer. The
// new brick is made, filled by the others without being asked for, and then is none
// that is new.
func TestReplacedDisk(t *testing.T) {
	const text = `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast}, spec: {type: Replica3, bricks: [
  {node: kube1, device: /dev/sda}, {node: kube2, device: /dev/%s}, {node: kube3, device: /dev/sda}]}}`
	c := startPool(t, document(t, fmt.Sprintf(text, "sda")), disks)
	dir, deep, before := used(t, c, 30)
	if err := unix.Setxattr(dir, "trusted.test", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	l := startLister(dir, "trusted.test", []string{"a"}) // an empty brick is not taken for a good one
	const pod = "atoll-fast-1-0"
	if err := c.Delete(pod); err != nil {
		t.Fatal(err)
	}
	// The same disk, suddenly blank, is not taken.
	brick := filepath.Join(c.NodePath("kube2", "/var/lib/atoll/bricks/atoll-system.fast.1"), "data/brick")
	if err := bricks.UnmountBelow(filepath.Dir(brick)); err != nil {
		t.Fatal(err)
	}
	if err := c.BlankDevice("kube2", "/dev/sda"); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background(), pod); err == nil || !strings.Contains(err.Error(), "was created here before") {
		t.Errorf("with a blank disk: %v", err)
	}
	p := document(t, fmt.Sprintf(text, "sdb"))
	if _, err := c.AddDevice("kube2", "/dev/sdb", 1<<30); err != nil {
		t.Fatal(err)
	}
	apply(t, c, p)
	filled(t, c, pod, filepath.Join(brick, "a/b"), before)
	w.Finish(t)
	l.finish(t)
	eventually(t, c, 90*time.Second, "the new brick is new no longer", func() bool {
		_, err := unix.Getxattr(filepath.Join(brick, ".glusterfs"), "trusted.atoll.fresh", nil)
		return err == unix.ENODATA
	})
	eventually(t, c, 30*time.Second, "the client has all bricks again", func() bool { return podrun.Connected(dir) == 3 })
	if err := c.Kill("atoll-fast-0-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	before.Verify(t, deep)
}

// filled starts the pod of a brick that is new, and waits until it has these files.
func filled(t *testing.T, c *podrun.Cluster, pod, dir string, files bricks.Files) {
	t.Helper()
	if err := c.Start(context.Background(), pod); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	eventually(t, c, 60*time.Second, "the new brick has what was there", func() bool {
		for name, sum := range files {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || bricks.Checksum(text) != sum {
				return false
			}
		}
		return true
	})
	t.Logf("filled after %s", time.Since(begin).Round(time.Second/10))
}

// TestReplacedNode moves a brick to another node in the document, under a writer: the
// former one has gone with all that it had.
func TestReplacedNode(t *testing.T) {
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
	eventually(t, c, 60*time.Second, "nothing is left to heal", func() bool {
		return podrun.Backlog(c.NodePath("kube1", "/srv/b/brick")) == 0 && podrun.Backlog(c.NodePath("kube3", "/srv/b/brick")) == 0
	})
	eventually(t, c, 30*time.Second, "the client has all bricks again", func() bool { return podrun.Connected(dir) == 3 })
	if err := c.Kill("atoll-fast-0-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	before.Verify(t, dir)
}

// TestAllCutOff takes all bricks off the network: calls end with an error and not never,
// and all is well again when they are back, with nothing lost that was synced.
func TestAllCutOff(t *testing.T) {
	c := startPool(t, document(t, `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast}, spec: {type: Replica3,
  options: {network.ping-timeout: "5"}, bricks: [{node: kube1, path: /srv/b}, {node: kube2, path: /srv/b}, {node: kube3, path: /srv/b}]}}`), disks)
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
	if err := os.WriteFile(filepath.Join(dir, "during"), []byte("text"), 0o600); err == nil || time.Since(begin) > 20*time.Second {
		t.Errorf("a write without any brick: %v after %s", err, time.Since(begin))
	}
	t.Logf("a write without any brick ends after %s", time.Since(begin).Round(time.Second/10))
	connect(true)
	begin = time.Now()
	eventually(t, c, 60*time.Second, "the mount works again", func() bool {
		return os.WriteFile(filepath.Join(dir, "after"), []byte("text"), 0o600) == nil
	})
	t.Logf("it works again after %s", time.Since(begin).Round(time.Second/10))
	before.Verify(t, dir)
}

// TestPartition takes a brick of a dispersed pool off the network, under a writer, and
// brings it back: it has what it missed in less than a minute, though the daemon itself
// looks each minute only.
func TestPartition(t *testing.T) {
	c := startPool(t, document(t, `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: bulk}, spec: {type: Disperse, disperse: {data: 2, redundancy: 1},
  options: {network.ping-timeout: "5"}, bricks: [{node: kube1, path: /srv/b}, {node: kube2, path: /srv/b}, {node: kube3, path: /srv/b}]}}`), disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	time.Sleep(time.Second)
	if err := c.Connect("atoll-bulk-2-0", false); err != nil {
		t.Fatal(err)
	}
	time.Sleep(12 * time.Second)
	during := bricks.Write(t, dir, "during", 10)
	if err := c.Connect("atoll-bulk-2-0", true); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	first := c.NodePath("kube1", "/srv/b/brick")
	eventually(t, c, 60*time.Second, "the brick that was cut off has what it missed", func() bool {
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
	w.Finish(t)
	if w.Longest > 15*time.Second {
		t.Errorf("a write took %s", w.Longest)
	}
	eventually(t, c, 60*time.Second, "nothing is left to heal", func() bool {
		return podrun.Backlog(first) == 0 && podrun.Backlog(c.NodePath("kube2", "/srv/b/brick")) == 0
	})
	eventually(t, c, 30*time.Second, "the client has all bricks again", func() bool { return podrun.Connected(dir) == 3 })
	if err := c.Kill("atoll-bulk-0-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	during.Verify(t, dir)
}

// TestClientCutOff takes one client off the network and brings it back: its calls end with
// an error and work again, and nobody else notices.
func TestClientCutOff(t *testing.T) {
	c := startPool(t, document(t, `{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast}, spec: {type: Replica3,
  options: {network.ping-timeout: "5"}, bricks: [{node: kube1, path: /srv/b}, {node: kube2, path: /srv/b}, {node: kube3, path: /srv/b}]}}`), disks)
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
	begin := time.Now()
	if err := os.WriteFile(filepath.Join(dir, "during"), []byte("text"), 0o600); err == nil || time.Since(begin) > 20*time.Second {
		t.Errorf("a write of the client that is cut off: %v after %s", err, time.Since(begin))
	}
	t.Logf("a write of the client that is cut off ends after %s", time.Since(begin).Round(time.Second/10))
	// What it had open does not keep the other client from the same file.
	if err := os.WriteFile(filepath.Join(other, "before-1"), []byte("by the other"), 0o600); err != nil {
		t.Error(err)
	}
	before["before-1"] = bricks.Checksum([]byte("by the other"))
	if err := c.ConnectClient(dir, true); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	eventually(t, c, 60*time.Second, "the client works again", func() bool {
		return os.WriteFile(filepath.Join(dir, "after"), []byte("text"), 0o600) == nil
	})
	t.Logf("it works again after %s", time.Since(begin).Round(time.Second/10))
	w.Finish(t)
	if w.Longest > 2*time.Second {
		t.Errorf("a write of the other client took %s", w.Longest)
	}
	for _, at := range []string{dir, other} {
		before.Verify(t, at)
	}
	for _, node := range []string{"kube1", "kube2", "kube3"} {
		eventually(t, c, 30*time.Second, "nothing is to be healed on "+node, func() bool { return podrun.Backlog(c.NodePath(node, "/srv/b/brick")) == 0 })
	}
}

// TestRollingRestart stops and starts all bricks of a pool, one after another, under a
// writer: each ends when it is asked to, the next goes when nothing is left to heal, and
// nobody notices.
func TestRollingRestart(t *testing.T) {
	c := startPool(t, plain(t, "Replica3", 3, `options: {network.ping-timeout: "5"}`), disks)
	dir, deep, before := used(t, c, 20)
	w := bricks.StartPacedWriter(filepath.Join(dir, "lines"), time.Millisecond)
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
		eventually(t, c, 30*time.Second, "the client has all bricks again", func() bool { return podrun.Connected(dir) == 3 })
		eventually(t, c, 60*time.Second, "nothing but the file that is being written is left to heal", func() bool {
			for other := range 3 {
				if podrun.Backlog(brickFolder(c, other)) > 1 {
					return false
				}
			}
			return true
		})
		t.Logf("%s: ended after %s, back and healed after %s", pod, took.Round(time.Second/10), time.Since(begin).Round(time.Second/10))
		for name, sum := range during {
			before[name] = sum
		}
	}
	w.Finish(t)
	if w.Longest > 2*time.Second {
		t.Errorf("a write took %s", w.Longest)
	}
	before.Verify(t, deep)
}
