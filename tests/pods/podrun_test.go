package pods

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/schema/loader"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
	"github.com/atoll-storage/atoll/tests/internal/programs"
)

// build returns the directory with atoll-brick.
func build(t *testing.T) string {
	t.Helper()
	dir, err := programs.Dir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// start renders an example and starts all of its pods.
func start(
	t *testing.T, example string, prepare func(t *testing.T, c *podrun.Cluster, p *schema.Pool),
) *podrun.Cluster {
	t.Helper()
	r, err := loader.Load(context.Background(), loader.Options{}, "../../examples/pools/"+example)
	if err != nil || len(r.Documents) != 1 || !r.Documents[0].Valid {
		t.Fatalf("load %s: %v", example, err)
	}
	return startPool(t, withVolumeID(t, r.Documents[0].Pool), prepare)
}

// withVolumeID gives a pool a volume ID of the test. The default depends only on the pool's name,
// the UUIDs of its disks are made of it, and a kernel mounts no two XFS with the same UUID.
func withVolumeID(t *testing.T, p *schema.Pool) *schema.Pool {
	p.Spec.VolumeID = uuid.NewSHA1(run, []byte(t.Name())).String()
	return p
}

// run is the ID of this run of the tests.
var run = uuid.New()

// startPool renders a pool and starts all of its pods.
func startPool(
	t *testing.T, pool *schema.Pool, prepare func(t *testing.T, c *podrun.Cluster, p *schema.Pool),
) *podrun.Cluster {
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
			t.Errorf("clean up: %v", err)
		}
	})
	c.SettleFor = 5 * time.Second // clients connect again within 3 s
	prepare(t, c, pool)
	if err := c.StartAll(context.Background(), c.Pods()...); err != nil {
		t.Fatal(err)
	}
	return c
}

// disks gives every device brick a disk, and every path brick its directory.
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

// TestDevicePool runs the pods of the Replica3 example exactly as rendered, with only their
// capabilities: they prepare and mount devices, serve, and heal.
func TestDevicePool(t *testing.T) {
	t.Parallel()
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
	// Attributes of the root are healed too. What identifies a brick must not be among them.
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := c.StartContainer(context.Background(), "atoll-fast-1-0", "glusterfsd"); err != nil {
		t.Fatal(err)
	}
	brick := filepath.Join(c.NodePath("kube2", "/var/lib/atoll/bricks/atoll-system.fast.1"), "data/brick")
	eventually(t, c, "the restarted brick has the files that it missed", func() bool { return contains(brick, during) })
	connected(t, c, dir, 3)
	eventually(t, c, "the mode of the root is healed", func() bool {
		info, err := os.Stat(brick)
		return err == nil && info.Mode().Perm() == 0o777
	})
	if err := c.Delete("atoll-fast-1-0"); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background(), "atoll-fast-1-0"); err != nil {
		t.Fatalf("the brick is not recognised after a heal: %v", err)
	}
	connected(t, c, dir, 3)
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

// TestContainersAreConfined checks the capabilities of running containers in /proc.
func TestContainersAreConfined(t *testing.T) {
	t.Parallel()
	c := start(t, "arbiter.yaml", disks)
	for container, want := range map[string]string{
		// SYS_ADMIN 21, MKNOD 27, and CHOWN 0 to SETUID 7 but KILL 5.
		"glusterfsd": "CapBnd:\t00000000082000df",
		"self-heal":  "CapBnd:\t0000000000000000",
	} {
		eventually(t, c, container+" runs", func() bool { return c.Daemon("atoll-lean-0-0", container) != 0 })
		status, err := os.ReadFile("/proc/" + strconv.Itoa(c.Daemon("atoll-lean-0-0", container)) + "/status")
		if err != nil || !strings.Contains(string(status), want) {
			t.Errorf("container %s lacks %q (%v):\n%s", container, want, err, status)
		}
	}
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	// The capabilities are for files of other owners, special files and attributes.
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

// TestTiebreakerPool starts a pair of bricks, and its thin arbiter in another pod.
func TestTiebreakerPool(t *testing.T) {
	t.Parallel()
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
	eventually(t, c, "the restarted brick has the files that it missed", func() bool { return contains(brick, during) })
	readWithoutQuorum(t, c, dir, "before-5") // no cache of the client has this file
}

// readWithoutQuorum kills the thin arbiter and a brick. With GlusterFS 10, a read may then hang
// (docs/limitations.md) until its client ends.
func readWithoutQuorum(t *testing.T, c *podrun.Cluster, dir, name string) {
	t.Helper()
	connected(t, c, dir, 2)
	for _, pod := range []string{"atoll-thin-ta-0", "atoll-thin-0-0"} {
		if err := c.Kill(pod, "glusterfsd"); err != nil {
			t.Fatal(err)
		}
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, err := os.ReadFile(filepath.Join(dir, name))
		t.Logf("without thin arbiter and one brick, the read returned: %v", err)
	}()
	select {
	case <-read:
	case <-time.After(10 * time.Second): // either way is as documented
		t.Log("without thin arbiter and one brick, the read hangs")
	}
	if err := c.KillClient(dir); err != nil {
		t.Fatal(err)
	}
	select {
	case <-read:
	case <-time.After(await.Limit):
		t.Fatal("the read does not return after the end of its client")
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
		t.Errorf("with all bricks again: %v", err)
	}
}

// TestClaimPool runs bricks on PersistentVolumeClaims.
func TestClaimPool(t *testing.T) {
	t.Parallel()
	c := start(t, "pvc.yaml", disks)
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	files := bricks.Write(t, dir, "file", 5)
	files.Verify(t, dir)

	// The disk of a local PersistentVolume is not mounted: the claim is an empty directory.
	pod := c.Pods()[0]
	if err := c.Stop(pod); err != nil {
		t.Fatal(err)
	}
	claim := c.ClaimPath("cloud-disk-1")
	if err := errors.Join(os.Rename(claim, claim+".disk"), os.Mkdir(claim, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background(), pod); err == nil ||
		!strings.Contains(err.Error(), "was created here before") {
		t.Errorf("without its disk: %v", err)
	}
	if left, err := os.ReadDir(claim); err != nil || len(left) > 0 {
		t.Errorf("a brick was made in the mount point: %v, %v", left, err)
	}
	if err := errors.Join(c.Stop(pod), os.Remove(claim), os.Rename(claim+".disk", claim)); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background(), pod); err != nil {
		t.Error(err)
	}
	files.Verify(t, dir)
}

// TestMissingDisk checks that a brick whose directory is missing does not start on the file system
// below.
func TestMissingDisk(t *testing.T) {
	t.Parallel()
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
	if err := c.Start(context.Background(), c.Pods()[0]); err == nil ||
		!strings.Contains(err.Error(), "has no directory") {
		t.Errorf("error %v", err)
	}
}
