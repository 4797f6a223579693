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
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// plain is the document of a pool named fast whose bricks 0 to n-1 are directories of the nodes
// kube1 to kube<n>.
func plain(t *testing.T, kind string, n int, more string) *schema.Pool {
	t.Helper()
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("{node: kube%d, path: /srv/b}", i+1))
	}
	return document(t, fmt.Sprintf(`{apiVersion: atoll.storage/v1alpha1, kind: StoragePool, metadata: {name: fast},
  spec: {type: %s, bricks: [%s], %s}}`, kind, strings.Join(list, ", "), more))
}

// brickDir is the directory of brick i of such a pool.
func brickDir(c *podrun.Cluster, i int) string {
	return c.NodePath(fmt.Sprintf("kube%d", i+1), "/srv/b/brick")
}

// grow applies a pool with more bricks, and starts their pods.
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

// used mounts a pool and writes files two directories down.
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

// TestLive changes options of a pool and adds a set to it, under a writer. Running bricks,
// self-heal daemons and clients apply both.
func TestLive(t *testing.T) {
	t.Parallel()
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
		t.Error("the logs have debug messages before they are enabled")
	}
	pids := func() string {
		return fmt.Sprint(c.Daemon("atoll-fast-0-0", "glusterfsd"), c.Daemon("atoll-fast-0-0", "self-heal"))
	}
	was := pids()
	apply(t, c, plain(t, "Replica3", 3, fmt.Sprintf(options, "DEBUG", "INFO")))
	eventually(t, c, "the brick logs debug messages", func() bool { return debugs("glusterfsd") })
	// The volfile server is restarted.
	if err := c.Kill("atoll-fast-0-0", "volfiles"); err != nil {
		t.Fatal(err)
	}
	w.Progress(t, 100)
	if err := c.StartContainer(context.Background(), "atoll-fast-0-0", "volfiles"); err != nil {
		t.Fatal(err)
	}
	apply(t, c, plain(t, "Replica3", 3, fmt.Sprintf(options, "INFO", "DEBUG")))
	eventually(t, c, "the self-heal daemon logs debug messages", func() bool { return debugs("self-heal") })

	grow(t, c, plain(t, "Replica3", 6, fmt.Sprintf(options, "INFO", "INFO")), 3)
	connected(t, c, dir, 6)
	if pids() != was {
		t.Errorf("processes %s, before %s", pids(), was)
	}
	// A new directory uses both sets, and daemons heal both.
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
		if err := c.StartContainer(context.Background(), fmt.Sprintf("atoll-fast-%d-0", brick),
			"glusterfsd"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, c, "the restarted bricks have the files that they missed", func() bool {
		found := map[int]int{}
		for name, sum := range during {
			for _, brick := range []int{1, 4} {
				text, err := os.ReadFile(filepath.Join(brickDir(c, brick), "both", name))
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

// agentKeys let the rebalance report to the bricks that it is done.
var agentKeys = map[string]map[string]string{render.AgentKeys: {"1": strings.Repeat("k", 32)}}

// sets is the document of a Replica3 pool; leaving decommissions its second set.
func sets(t *testing.T, bricks int, leaving bool) *schema.Pool {
	t.Helper()
	p := plain(t, "Replica3", bricks, `options: {network.ping-timeout: "5"}`)
	for i := 3; i < bricks; i++ {
		p.Spec.Bricks[i].Decommissioned = leaving
	}
	return p
}

// rebalancer applies a pool and starts the pod that moves files, which waits for clients as long
// as settle before it does.
func rebalancer(t *testing.T, c *podrun.Cluster, p *schema.Pool, settle time.Duration) {
	t.Helper()
	objects, err := render.Render(p, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if d, is := o.(*appsv1.Deployment); is {
			command := d.Spec.Template.Spec.Containers[0].Command
			i := slices.Index(command, "--settle=2m")
			command[i] = "--settle=" + settle.String()
		}
	}
	if err := c.Apply(objects); err != nil {
		t.Fatal(err)
	}
	if err := c.Run("atoll-fast-rebalance-0"); err != nil {
		t.Fatal(err)
	}
}

// onBrick counts the files that a brick has below a directory.
func onBrick(c *podrun.Cluster, brick int, dir string) int {
	n := 0
	_ = filepath.WalkDir(filepath.Join(brickDir(c, brick), dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // the file was moved
		}
		if _, err := unix.Lgetxattr(path, "trusted.glusterfs.dht.linkto", nil); err != nil {
			n++
		}
		return nil
	})
	return n
}

// TestGrowAndShrink adds a set to a pool, under a writer, and removes it. Files move to it and back,
// and all can be read at any time.
func TestGrowAndShrink(t *testing.T) {
	t.Parallel()
	c := startPool(t, sets(t, 3, false), func(t *testing.T, c *podrun.Cluster, p *schema.Pool) {
		c.Secrets = agentKeys
		disks(t, c, p)
	})
	dir, deep, before := used(t, c, 100)
	if err := os.Link(filepath.Join(deep, "before-1"), filepath.Join(dir, "second-name")); err != nil {
		t.Fatal(err)
	}
	// GlusterFS postpones moving a file that is written without pause.
	w := bricks.StartPacedWriter(filepath.Join(dir, "lines"), 20*time.Millisecond)
	const (
		pod    = "atoll-fast-rebalance-0"
		settle = 4 * time.Second
	)
	settled := func() bool { return c.Ready(pod) == nil }

	grow(t, c, sets(t, 6, false), 3)
	begin := time.Now()
	rebalancer(t, c, sets(t, 6, false), settle)
	eventually(t, c, "files are on both sets", settled)
	t.Logf("spread after %s, %d of %d files on the new set", time.Since(begin).Round(time.Second/10),
		onBrick(c, 3, "a/b"), len(before))
	if n := onBrick(c, 3, "a/b"); n < 20 || n > 80 {
		t.Errorf("the new set has %d of %d files", n, len(before))
	}
	before.Verify(t, deep)
	during := bricks.Write(t, deep, "during", 40)
	// The bricks remember that all is moved: a new process has nothing to wait for.
	for _, settle := range []time.Duration{time.Hour, settle} {
		if err := c.Kill(pod, "rebalance"); err != nil {
			t.Fatal(err)
		}
		rebalancer(t, c, sets(t, 6, false), settle)
		eventually(t, c, "the new process has nothing to move", settled)
	}

	frozen, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	c.StopUpdates(frozen)
	begin = time.Now()
	if err := c.Stop(pod); err != nil {
		t.Fatal(err)
	}
	rebalancer(t, c, sets(t, 6, true), settle)
	eventually(t, c, "the set is empty", settled)
	t.Logf("drained after %s", time.Since(begin).Round(time.Second/10))
	for brick := 3; brick < 6; brick++ {
		if n := onBrick(c, brick, "."); n > onBrick(c, brick, ".glusterfs") {
			t.Errorf("brick %d still has %d files", brick, n)
		}
	}
	after := bricks.Write(t, deep, "after", 40)
	// A client with the old graph still writes to the set, which then is not empty.
	late := filepath.Join(frozen, "late")
	if err := os.Mkdir(late, 0o755); err != nil {
		t.Fatal(err)
	}
	lately := bricks.Write(t, late, "late", 20)
	if n := onBrick(c, 3, "late"); n == 0 {
		t.Log("no late file is on the set that leaves")
	}
	eventually(t, c, "the rebalance notices the late files",
		func() bool { return !settled() || onBrick(c, 3, "late") == 0 })
	eventually(t, c, "the set is empty again", func() bool { return onBrick(c, 3, "late") == 0 && settled() })
	if err := c.KillClient(frozen); err != nil {
		t.Fatal(err)
	}
	lately.Verify(t, filepath.Join(dir, "late"))
	apply(t, c, sets(t, 3, false))
	connected(t, c, dir, 3)
	for brick := 3; brick < 6; brick++ {
		if err := c.Delete(fmt.Sprintf("atoll-fast-%d-0", brick)); err != nil {
			t.Fatal(err)
		}
	}
	w.Finish(t)
	for _, files := range []bricks.Files{before, during, after} {
		files.Verify(t, deep)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "second-name")); err != nil ||
		bricks.Checksum(text) != before["before-1"] {
		t.Errorf("the file with two names: %v", err)
	}
}

// hold is how long bricks admit clients that do not know of a new copy: clients that do hear of it
// must have switched graphs by then, also on a busy machine. It is 3 min by default.
const hold = 20 * time.Second

// TestJoin grows a pool of one brick to two copies and then to three, under a writer. Nothing that
// was synced is lost, listings are complete while a copy is filled, and each copy has all files in
// the end. A client that does not hear of a new copy is refused before the copy counts.
func TestJoin(t *testing.T) {
	t.Parallel()
	const options = `options: {network.ping-timeout: "5"}`
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
	was := c.Daemon("atoll-fast-0-0", "glusterfsd")
	for _, step := range []struct {
		kind  string
		brick int
	}{{"Replica2", 1}, {"Replica3", 2}} {
		stale := startStale(t, c)
		begin := time.Now()
		grow(t, c, plain(t, step.kind, step.brick+1, options), step.brick)
		joined := time.Since(begin)
		if joined < hold {
			t.Errorf("the copy joined after %s already", joined)
		}
		connected(t, c, dir, step.brick+1)
		fresh, err := c.Mount(context.Background(), catalog.KeyFiles) // with no cached names
		if err != nil {
			t.Fatal(err)
		}
		listers = append(listers, startLister(fresh, "trusted.test", []string{"a"}))
		holds(t, c, step.brick, "a/b", before)
		t.Logf("%s: the copy joined after %s and had all files after %s", step.kind, joined.Round(time.Second/10),
			time.Since(begin).Round(time.Second/10))
		stale.finish(t, c, dir)
		rootHealed(t, c, step.brick)
	}
	for _, l := range listers {
		l.finish(t)
	}
	w.Kept = true
	w.Finish(t)
	if c.Daemon("atoll-fast-0-0", "glusterfsd") != was {
		t.Error("the first brick was restarted")
	}
	text, err := os.ReadFile(filepath.Join(dir, "lines"))
	if err != nil {
		t.Fatal(err)
	}
	before["../../lines"] = bricks.Checksum(text)
	for i := range 3 {
		holds(t, c, i, "a/b", before)
	}
	// The copies are enough without the first brick.
	if err := c.Delete("atoll-fast-0-0"); err != nil {
		t.Fatal(err)
	}
	before.Verify(t, deep)
	bricks.Write(t, deep, "after", 5)
}

// rootHealed waits until the bricks up to this one are healed.
func rootHealed(t *testing.T, c *podrun.Cluster, brick int) {
	t.Helper()
	eventually(t, c, "the root is healed, and nothing is pending but the file that is being written", func() bool {
		for i := range brick + 1 {
			if bricks.PendingOn(brickDir(c, i)) > 1 {
				return false
			}
		}
		return !blamesRoot(c, brick)
	})
}

// stale is a client that does not hear of a new copy, and writes until it is refused.
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
	c.StopUpdates(mount)
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

// finish checks that the client was refused, that others read everything it wrote, and that it is
// admitted with the new graph.
func (s *stale) finish(t *testing.T, c *podrun.Cluster, dir string) {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(await.Limit):
		t.Fatal("a client without the new copy still writes")
	}
	t.Logf("a client without the new copy wrote %d files, then: %v", s.wrote, s.err)
	for i := range s.wrote {
		if text, err := os.ReadFile(s.file(dir, i)); err != nil || string(text) != fmt.Sprintf("text %d", i) {
			t.Errorf("file %d of the stale client: %q %v", i, text, err)
		}
	}
	if err := c.ResumeUpdates(s.mount, catalog.KeyFiles); err != nil {
		t.Fatal(err)
	}
	eventually(t, c, "it is admitted again", func() bool {
		return os.WriteFile(s.file(s.mount, s.wrote), []byte("again"), 0o600) == nil
	})
}

// holds waits until a brick has these files.
func holds(t *testing.T, c *podrun.Cluster, brick int, dir string, files bricks.Files) {
	t.Helper()
	eventually(t, c, "the brick has all files",
		func() bool { return contains(filepath.Join(brickDir(c, brick), dir), files) })
}

// blamesRoot reports whether the first brick has counters of pending changes against the root of
// another one.
func blamesRoot(c *podrun.Cluster, brick int) bool {
	value := make([]byte, 12)
	n, err := unix.Getxattr(brickDir(c, 0), fmt.Sprintf("trusted.afr.fast-client-%d", brick), value)
	return err == nil && strings.Trim(string(value[:n]), "\x00") != ""
}
