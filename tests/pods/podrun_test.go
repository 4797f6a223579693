package pods

import (
	"context"
	"os"
	"os/exec"
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

func TestMain(m *testing.M) {
	podrun.Child()
	os.Exit(m.Run())
}

// build compiles atoll-brick and gives its folder.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir, "../../cmd/atoll-brick")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building atoll-brick: %v\n%s", err, out)
	}
	return dir
}

// start renders one example and starts all of its pods.
func start(t *testing.T, example string, prepare func(t *testing.T, c *podrun.Cluster, p *schema.Pool)) *podrun.Cluster {
	t.Helper()
	r, err := loader.Load(context.Background(), loader.Options{}, "../../examples/pools/"+example)
	if err != nil || len(r.Documents) != 1 || !r.Documents[0].Valid {
		t.Fatalf("loading %s: %v", example, err)
	}
	return startPool(t, own(r.Documents[0].Pool), prepare)
}

// own makes the disks of a pool other ones than those of pools of the same name that
// other tests run at the same time: a kernel mounts no two XFS with the same UUID.
func own(p *schema.Pool) *schema.Pool {
	p.Spec.VolumeID = "6e1a52a7-3f3c-4d5e-9f0a-5b8c1f7f2f61"
	return p
}

// startPool renders a pool and starts all of its pods.
func startPool(t *testing.T, pool *schema.Pool, prepare func(t *testing.T, c *podrun.Cluster, p *schema.Pool)) *podrun.Cluster {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("runs pods as processes: needs root, and no -short")
	}
	if _, err := exec.LookPath("glusterfsd"); err != nil {
		t.Skip("glusterfsd is not installed: run make deps")
	}
	objects, err := render.Render(pool, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := podrun.New(t.TempDir(), build(t), objects)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	prepare(t, c, pool)
	if err := c.StartAll(context.Background(), c.Pods()...); err != nil {
		t.Fatal(err)
	}
	return c
}

// disks gives every device brick a disk, and every path brick its folder.
func disks(t *testing.T, c *podrun.Cluster, p *schema.Pool) {
	t.Helper()
	for _, b := range p.Spec.Bricks {
		if b.Device != "" {
			if _, err := c.AddDevice(b.Node, b.Device, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		if b.Path != "" {
			if err := os.MkdirAll(c.NodePath(b.Node, b.Path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDevicePool runs the pods of the Replica3 example exactly as rendered, with
// their capabilities and nothing more: device, mount, prepare, serve, heal.
func TestDevicePool(t *testing.T) {
	c := start(t, "replica3.yaml", disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	before := bricks.Write(t, dir, "before", 20)
	if err := c.Kill("atoll-fast-1-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	before.Verify(t, dir)
	during := bricks.Write(t, dir, "during", 20)
	// What the root has is healed too, and must not be what makes a brick that brick.
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := c.StartContainer(context.Background(), "atoll-fast-1-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	brick := filepath.Join(c.NodePath("kube2", "/var/lib/atoll/bricks/atoll-system.fast.1"), "data/brick")
	eventually(t, c, 60*time.Second, "the returned brick has all that was written", func() bool {
		for name, sum := range during {
			text, err := os.ReadFile(filepath.Join(brick, name))
			if err != nil || bricks.Checksum(text) != sum {
				return false
			}
		}
		return true
	})
	eventually(t, c, 30*time.Second, "the client has all bricks again", func() bool { return podrun.Connected(dir) == 3 })
	eventually(t, c, 60*time.Second, "the root is healed too", func() bool {
		info, err := os.Stat(brick)
		return err == nil && info.Mode().Perm() == 0o777
	})
	if err := c.Delete("atoll-fast-1-0"); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background(), "atoll-fast-1-0"); err != nil {
		t.Fatalf("the brick is not taken for itself after a heal: %v", err)
	}
	eventually(t, c, 30*time.Second, "the client has all bricks again", func() bool { return podrun.Connected(dir) == 3 })
	if err := c.Kill("atoll-fast-0-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	before.Verify(t, dir)
	during.Verify(t, dir)
	blocks, err := c.Mount(context.Background(), catalog.KeyBlocks)
	if err != nil {
		t.Fatal(err)
	}
	bricks.Write(t, blocks, "block", 3)
}

// TestContainersAreConfined reads what the kernel says of the running containers.
func TestContainersAreConfined(t *testing.T) {
	c := start(t, "arbiter.yaml", disks)
	for container, want := range map[string]string{
		// SYS_ADMIN 21, MKNOD 27, and CHOWN 0 to SETUID 7 but KILL 5.
		"glusterfsd": "CapBnd:\t00000000082000df",
		"self-heal":  "CapBnd:\t0000000000000000",
	} {
		status, err := os.ReadFile("/proc/" + itoa(c.PID("atoll-lean-0-0", container)) + "/status")
		if err != nil || !strings.Contains(string(status), want) {
			t.Errorf("container %s has not %q (%v):\n%s", container, want, err, status)
		}
	}
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	// Files of other owners, special files, attributes: all that the capabilities are for.
	file := filepath.Join(dir, "file")
	for what, err := range map[string]error{
		"writing": os.WriteFile(file, []byte("text"), 0o600),
		"owner":   os.Chown(file, 1234, 1234),
		"mode":    os.Chmod(file, 0o4755),
		"pipe":    unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
		"device":  unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
		"xattr":   unix.Setxattr(file, "user.a", []byte("b"), 0),
		"trusted": unix.Setxattr(file, "trusted.a", []byte("b"), 0),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestTiebreakerPool starts a pair with its thin arbiter in a pod of its own.
func TestTiebreakerPool(t *testing.T) {
	c := start(t, "replica2-tiebreaker.yaml", disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	before := bricks.Write(t, dir, "before", 5)
	if err := c.Kill("atoll-thin-0-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	before.Verify(t, dir)
	during := bricks.Write(t, dir, "during", 5)
	during.Verify(t, dir)
	if err := c.StartContainer(context.Background(), "atoll-thin-0-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	brick := filepath.Join(c.NodePath("kube1", "/var/lib/atoll/bricks/atoll-system.thin.0"), "data/brick")
	eventually(t, c, 60*time.Second, "the brick that was away has what it missed", func() bool {
		for name, sum := range during {
			text, err := os.ReadFile(filepath.Join(brick, name))
			if err != nil || bricks.Checksum(text) != sum {
				return false
			}
		}
		return true
	})
	hangs(t, c, dir, "before-5") // the one that no cache of the client has
}

// hangs takes the thin arbiter and a brick away. GlusterFS 10 may leave a read waiting for
// ever then (docs/limitations.md): what frees it is the end of the client.
func hangs(t *testing.T, c *podrun.Cluster, dir, name string) {
	t.Helper()
	eventually(t, c, 30*time.Second, "the client has all bricks again", func() bool { return podrun.Connected(dir) == 2 })
	for _, pod := range []string{"atoll-thin-ta-0", "atoll-thin-0-0"} {
		if err := c.Kill(pod, "glusterfsd"); err != nil {
			t.Fatal(err)
		}
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, err := os.ReadFile(filepath.Join(dir, name))
		t.Logf("without thin arbiter and one brick, the read ended with: %v", err)
	}()
	select {
	case <-read:
	case <-time.After(15 * time.Second):
		t.Log("without thin arbiter and one brick, a read does not end")
	}
	if err := c.KillClient(dir); err != nil {
		t.Fatal(err)
	}
	select {
	case <-read:
	case <-time.After(15 * time.Second):
		t.Fatal("the read does not even end with its client")
	}
	for _, pod := range []string{"atoll-thin-ta-0", "atoll-thin-0-0"} {
		if err := c.StartContainer(context.Background(), pod, "glusterfsd"); err != nil {
			t.Fatal(err)
		}
	}
	again, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(filepath.Join(again, name)); err != nil {
		t.Errorf("after all are back: %v", err)
	}
}

// TestClaimPool runs bricks on claims.
func TestClaimPool(t *testing.T) {
	c := start(t, "pvc.yaml", disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	bricks.Write(t, dir, "file", 5).Verify(t, dir)
}

// TestMissingDisk holds that a brick whose folder is not there does not start on
// the disk below.
func TestMissingDisk(t *testing.T) {
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("runs pods as processes: needs root, and no -short")
	}
	r, err := loader.Load(context.Background(), loader.Options{}, "../../examples/pools/replica1.yaml")
	if err != nil {
		t.Fatal(err)
	}
	objects, err := render.Render(r.Documents[0].Pool, render.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := podrun.New(t.TempDir(), build(t), objects)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Start(context.Background(), c.Pods()[0]); err == nil || !strings.Contains(err.Error(), "has no folder") {
		t.Errorf("error %v", err)
	}
}
