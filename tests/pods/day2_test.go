package pods

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
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
	var added []string
	for i := from; i < len(p.Spec.Bricks); i++ {
		added = append(added, fmt.Sprintf("atoll-fast-%d-0", i))
	}
	if err := c.StartAll(context.Background(), added...); err != nil {
		t.Fatal(err)
	}
}

// used mounts a pool and writes files two folders down.
func used(t *testing.T, c *podrun.Cluster, n int) (dir, deep string, files bricks.Files) {
	t.Helper()
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	deep = filepath.Join(dir, "a/b")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir, deep, bricks.Write(t, deep, "before", n)
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

// agentKeys are what lets the rebalance tell the bricks that it is done.
var agentKeys = map[string]map[string]string{render.AgentKeys: {"1": strings.Repeat("k", 32)}}

// sets is the document of a Replica3 pool of two sets, of which the second leaves.
func sets(t *testing.T, bricks int, leaving bool) *schema.Pool {
	t.Helper()
	p := plain(t, "Replica3", bricks, `options: {network.ping-timeout: "5"}`)
	for i := 3; i < bricks; i++ {
		p.Spec.Bricks[i].Decommissioned = leaving
	}
	return p
}

// rebalancer starts the pod that moves files, which does not wait for nodes here.
func rebalancer(t *testing.T, c *podrun.Cluster, p *schema.Pool) {
	t.Helper()
	objects, err := render.Render(p, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if d, is := o.(*appsv1.Deployment); is {
			command := d.Spec.Template.Spec.Containers[0].Command
			i := slices.Index(command, "--settle=2m")
			command[i] = "--settle=4s"
		}
	}
	if err := c.Apply(objects); err != nil {
		t.Fatal(err)
	}
	if err := c.Run("atoll-fast-rebalance-0"); err != nil {
		t.Fatal(err)
	}
}

// onBrick counts the files that a brick has below a folder.
func onBrick(c *podrun.Cluster, brick int, folder string) int {
	n := 0
	_ = filepath.WalkDir(filepath.Join(brickFolder(c, brick), folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // files come and go
		}
		if _, err := unix.Lgetxattr(path, "trusted.glusterfs.dht.linkto", nil); err != nil {
			n++
		}
		return nil
	})
	return n
}

// TestGrowAndShrink adds a set to a pool, under a writer, and takes it away again: files
// move to it, and off it, and none is lost or cannot be read meanwhile.
func TestGrowAndShrink(t *testing.T) {
	c := startPool(t, sets(t, 3, false), func(t *testing.T, c *podrun.Cluster, p *schema.Pool) {
		c.Secrets = agentKeys
		disks(t, c, p)
	})
	dir, deep, before := used(t, c, 100)
	if err := os.Link(filepath.Join(deep, "before-1"), filepath.Join(dir, "second-name")); err != nil {
		t.Fatal(err)
	}
	// GlusterFS gives up moving a file, for the time being, that is written without pause.
	w := bricks.StartPacedWriter(filepath.Join(dir, "lines"), 20*time.Millisecond)
	const pod = "atoll-fast-rebalance-0"
	settled := func() bool { return c.Ready(pod) == nil }

	grow(t, c, sets(t, 6, false), 3)
	begin := time.Now()
	rebalancer(t, c, sets(t, 6, false))
	if settled() {
		t.Error("the files are spread at once")
	}
	eventually(t, c, 120*time.Second, "the files are spread", settled)
	t.Logf("spread after %s, %d of %d files on the new set", time.Since(begin).Round(time.Second/10), onBrick(c, 3, "a/b"), len(before))
	if n := onBrick(c, 3, "a/b"); n < 20 || n > 80 {
		t.Errorf("the new set has %d of %d files", n, len(before))
	}
	before.Verify(t, deep)
	during := bricks.Write(t, deep, "during", 40)
	// It is remembered by the bricks: a process that starts has nothing to do.
	if err := c.Kill(pod, "rebalance"); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(pod); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, 3*time.Second, "nothing is moved again", settled)

	frozen, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	c.Freeze(frozen)
	begin = time.Now()
	apply(t, c, sets(t, 6, true))
	eventually(t, c, 30*time.Second, "it is seen that a set leaves", func() bool { return !settled() })
	eventually(t, c, 120*time.Second, "the set is empty", settled)
	t.Logf("drained after %s", time.Since(begin).Round(time.Second/10))
	for brick := 3; brick < 6; brick++ {
		if n := onBrick(c, brick, "."); n > onBrick(c, brick, ".glusterfs") {
			t.Errorf("brick %d still has %d files", brick, n)
		}
	}
	after := bricks.Write(t, deep, "after", 40)
	// A client that knows of no change still writes to the set: it is not taken for empty.
	late := filepath.Join(frozen, "late")
	if err := os.Mkdir(late, 0o755); err != nil {
		t.Fatal(err)
	}
	lately := bricks.Write(t, late, "late", 20)
	if n := onBrick(c, 3, "late"); n == 0 {
		t.Log("none of the late files is on the set that leaves")
	}
	eventually(t, c, 40*time.Second, "what came late has been seen", func() bool { return !settled() || onBrick(c, 3, "late") == 0 })
	eventually(t, c, 120*time.Second, "the set is empty again", func() bool { return onBrick(c, 3, "late") == 0 && settled() })
	if err := c.KillClient(frozen); err != nil {
		t.Fatal(err)
	}
	lately.Verify(t, filepath.Join(dir, "late"))
	apply(t, c, sets(t, 3, false))
	eventually(t, c, 30*time.Second, "the client has the bricks that are left", func() bool { return podrun.Connected(dir) == 3 })
	for brick := 3; brick < 6; brick++ {
		if err := c.Delete(fmt.Sprintf("atoll-fast-%d-0", brick)); err != nil {
			t.Fatal(err)
		}
	}
	w.Finish(t)
	for _, files := range []bricks.Files{before, during, after} {
		files.Verify(t, deep)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "second-name")); err != nil || bricks.Checksum(text) != before["before-1"] {
		t.Errorf("the file with two names: %v", err)
	}
}

// TestJoin makes a pool of one brick one of two copies and then of three, under a writer:
// nothing that was synced is lost, while each copy is filled nothing is missing in what is
// listed, and each has all of it in the end. A client that hears nothing of a new copy is
// shut out before the copy counts.
func TestJoin(t *testing.T) {
	const options = `options: {network.ping-timeout: "5"}`
	const hold = 6 * time.Second
	c := startPool(t, plain(t, "Replica1", 1, options), func(t *testing.T, c *podrun.Cluster, p *schema.Pool) {
		c.Hold = hold
		disks(t, c, p)
	})
	dir, deep, before := used(t, c, 50)
	if err := unix.Setxattr(dir, "trusted.test", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	listers := []*lister{startLister(dir, "trusted.test", []string{"a"})}
	was := c.PID("atoll-fast-0-0", "glusterfsd")
	for _, step := range []struct {
		kind  string
		brick int
	}{{"Replica2", 1}, {"Replica3", 2}} {
		stale := startStale(t, c)
		begin := time.Now()
		grow(t, c, plain(t, step.kind, step.brick+1, options), step.brick)
		joined := time.Since(begin)
		if joined < hold {
			t.Errorf("the copy has joined after %s already", joined)
		}
		eventually(t, c, 30*time.Second, "the client has all bricks", func() bool { return podrun.Connected(dir) == step.brick+1 })
		fresh, err := c.Mount(context.Background(), catalog.KeyFiles) // one that knows nothing yet
		if err != nil {
			t.Fatal(err)
		}
		listers = append(listers, startLister(fresh, "trusted.test", []string{"a"}))
		holds(t, c, step.brick, "a/b", before)
		t.Logf("%s: the copy joins after %s and has all after %s", step.kind, joined.Round(time.Second/10), time.Since(begin).Round(time.Second/10))
		stale.finish(t, c, dir)
		rootHealed(t, c, step.brick)
	}
	for _, l := range listers {
		l.finish(t)
	}
	w.Kept = true
	w.Finish(t)
	if c.PID("atoll-fast-0-0", "glusterfsd") != was {
		t.Error("the brick that was there has been restarted")
	}
	text, err := os.ReadFile(filepath.Join(dir, "lines"))
	if err != nil {
		t.Fatal(err)
	}
	before["../../lines"] = bricks.Checksum(text)
	for i := range 3 {
		holds(t, c, i, "a/b", before)
	}
	// The first brick goes for good: the copies are enough.
	if err := c.Delete("atoll-fast-0-0"); err != nil {
		t.Fatal(err)
	}
	before.Verify(t, deep)
	bricks.Write(t, deep, "after", 5)
}

// rootHealed waits until no brick up to this one has anything to heal.
func rootHealed(t *testing.T, c *podrun.Cluster, brick int) {
	t.Helper()
	eventually(t, c, 60*time.Second, "the root is healed, and nothing else is left to heal but what is being written", func() bool {
		for i := range brick + 1 {
			if podrun.Backlog(brickFolder(c, i)) > 1 {
				return false
			}
		}
		return !accused(c, brick)
	})
}

// stale is a client that hears of no new copy, and writes until it may not.
type stale struct {
	mount string
	wrote int
	err   error
	done  chan struct{}
}

func startStale(t *testing.T, c *podrun.Cluster) *stale {
	t.Helper()
	mount, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	c.Freeze(mount)
	s := &stale{mount: mount, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for s.err == nil {
			if s.err = os.WriteFile(s.file(mount, s.wrote), fmt.Appendf(nil, "text %d", s.wrote), 0o600); s.err == nil {
				s.wrote++
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return s
}

func (s *stale) file(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%d", filepath.Base(s.mount), i))
}

// finish holds that the client was shut out, that all it has written is there for others,
// and that it is let in again with the new graph.
func (s *stale) finish(t *testing.T, c *podrun.Cluster, dir string) {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(20 * time.Second):
		t.Fatal("a client that knows of no new copy still writes")
	}
	t.Logf("a client that knows of no new copy wrote %d files, then: %v", s.wrote, s.err)
	for i := range s.wrote {
		if text, err := os.ReadFile(s.file(dir, i)); err != nil || string(text) != fmt.Sprintf("text %d", i) {
			t.Errorf("file %d of it: %q %v", i, text, err)
		}
	}
	if err := c.Thaw(s.mount, catalog.KeyFiles); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, 20*time.Second, "it is let in again", func() bool {
		return os.WriteFile(s.file(s.mount, s.wrote), []byte("again"), 0o600) == nil
	})
}

// holds waits until a brick has these files.
func holds(t *testing.T, c *podrun.Cluster, brick int, folder string, files bricks.Files) {
	t.Helper()
	eventually(t, c, 90*time.Second, "the brick has what it lacked", func() bool {
		for name, sum := range files {
			text, err := os.ReadFile(filepath.Join(brickFolder(c, brick), folder, name))
			if err != nil || bricks.Checksum(text) != sum {
				return false
			}
		}
		return true
	})
}

// accused tells whether the first brick has it that the root of another lacks something.
func accused(c *podrun.Cluster, brick int) bool {
	value := make([]byte, 12)
	n, err := unix.Getxattr(brickFolder(c, 0), fmt.Sprintf("trusted.afr.fast-client-%d", brick), value)
	return err == nil && strings.Trim(string(value[:n]), "\x00") != ""
}
