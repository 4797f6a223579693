// Package bricks starts real glusterfsd bricks, mounts and self-heal daemons from the graphs of
// package volfile, for tests.
package bricks

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/netns"
	"github.com/atoll-storage/atoll/tests/internal/ports"
)

// Cluster is the processes of a pool on this machine.
type Cluster struct {
	t       testing.TB
	dir     string
	Pool    volfile.Pool
	Bricks  []*exec.Cmd          // by brick index, the tiebreaker last
	clients map[string]*exec.Cmd // by mount point
	agents  []int                // ports
	// Change changes the graph of a brick that is started; nil leaves it as it is.
	Change func(*volfile.Xlator)
	// network is the path of the bricks' network namespace, "" for that of the test; address
	// is the bricks' address in it.
	network, address string
}

// Bare returns a cluster without bricks, for processes of a test whose files are in dir.
func Bare(t testing.TB, dir string) *Cluster {
	return &Cluster{t: t, dir: dir, clients: map[string]*exec.Cmd{}}
}

// Start prepares and starts all bricks of a pool on loopback.
func Start(t testing.TB, kind schema.Type, bricks int, shape func(*volfile.Pool)) *Cluster {
	t.Helper()
	return StartIn(t, "", "127.0.0.1", kind, bricks, shape)
}

// StartIn is Start in a network namespace, given by path, that has this address.
func StartIn(t testing.TB, network, address string, kind schema.Type, bricks int, shape func(*volfile.Pool)) *Cluster {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("starts real bricks and mounts: needs root, and no -short")
	}
	if _, err := exec.LookPath("glusterfsd"); err != nil {
		t.Skip("glusterfsd is not installed: run make deps")
	}
	c := Bare(t, tempDir(t))
	c.network, c.address = network, address
	c.Pool = volfile.Pool{Name: "p", Type: kind, VolumeID: uuid.NewString()}
	for i := range bricks {
		c.Pool.Bricks = append(c.Pool.Bricks, c.endpoint(fmt.Sprintf("brick-%d", i)))
	}
	if shape != nil {
		shape(&c.Pool)
	}
	n := bricks
	if c.Pool.Tiebreaker != nil {
		at := c.endpoint("tiebreaker")
		c.Pool.Tiebreaker, n = &at, n+1
	}
	c.Bricks = make([]*exec.Cmd, n)
	for i := range n {
		c.prepare(i)
		c.StartBrick(i)
	}
	return c
}

// tempDir is t.TempDir with a short path: paths of sockets have at most 107 bytes.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "b-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Grow adds bricks to the pool and starts them; clients keep their graph.
func (c *Cluster) Grow(n int) {
	c.t.Helper()
	first := len(c.Pool.Bricks)
	c.Extend(n)
	for i := range n {
		c.StartBrick(first + i)
	}
}

// Extend adds bricks to the pool without starting them.
func (c *Cluster) Extend(n int) {
	c.t.Helper()
	for range n {
		i := len(c.Pool.Bricks)
		c.Pool.Bricks = append(c.Pool.Bricks, c.endpoint(fmt.Sprintf("brick-%d", i)))
		c.Bricks = append(c.Bricks, nil)
		c.prepare(i)
	}
}

func (c *Cluster) endpoint(name string) volfile.Endpoint {
	var port int
	if err := c.inside(func() (err error) {
		port, err = ports.Free(c.address)
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	return volfile.Endpoint{Host: c.address, Port: port, Directory: filepath.Join(c.dir, name)}
}

// inside calls a function in the network namespace of the bricks.
func (c *Cluster) inside(do func() error) error {
	if c.network == "" {
		return do()
	}
	return netns.In(c.network, do)
}

func (c *Cluster) at(i int) volfile.Endpoint {
	if i == len(c.Pool.Bricks) {
		return *c.Pool.Tiebreaker
	}
	return c.Pool.Bricks[i]
}

// prepare creates the directory of a brick with what glusterfsd requires in it.
func (c *Cluster) prepare(i int) {
	c.t.Helper()
	dir := c.at(i).Directory
	if err := os.MkdirAll(filepath.Join(dir, ".glusterfs"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	id := uuid.MustParse(c.Pool.VolumeID)
	if err := unix.Setxattr(dir, "trusted.glusterfs.volume-id", id[:], 0); err != nil {
		c.t.Fatalf("set the volume ID of %s: %v", dir, err)
	}
}

// StartBrick starts the brick with index i, the tiebreaker last, and waits until it listens.
func (c *Cluster) StartBrick(i int) {
	c.t.Helper()
	build := func() (*volfile.Xlator, error) { return volfile.Brick(c.Pool, i) }
	if i == len(c.Pool.Bricks) {
		build = func() (*volfile.Xlator, error) { return volfile.Tiebreaker(c.Pool) }
	}
	if c.Change != nil {
		plain := build
		build = func() (*volfile.Xlator, error) {
			x, err := plain()
			if err == nil {
				c.Change(x)
			}
			return x, err
		}
	}
	name := fmt.Sprintf("brick-%d", i)
	at := c.at(i)
	brick := append(c.command("glusterfsd"), "-N", "-f", c.write(name, build), "--volfile-id", "p."+name,
		"--brick-name", at.Directory, "--process-name", "brick", "-l", c.log(name), "-S",
		filepath.Join(c.dir, name+".sock"))
	c.Bricks[i] = c.Run(brick[0], brick[1:]...)
	c.listens(name, at)
}

// listens waits until a process listens.
func (c *Cluster) listens(name string, at volfile.Endpoint) {
	c.t.Helper()
	c.Eventually(name+" listens", func() bool {
		return c.inside(func() error {
			conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", at.Host, at.Port), time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		}) == nil
	})
}

// command starts a program in the network namespace of the bricks.
func (c *Cluster) command(program string) []string {
	if c.network == "" {
		return []string{program}
	}
	return []string{"nsenter", "--net=" + c.network, program}
}

// Run starts a process that ends with the test.
func (c *Cluster) Run(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn.Start(cmd); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { Stop(cmd) })
	return cmd
}

// Stop kills a process that Run started, and waits for it.
func Stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func (c *Cluster) log(name string) string { return filepath.Join(c.dir, name+".log") }

// write prints a graph into a file and returns the file's path.
func (c *Cluster) write(name string, build func() (*volfile.Xlator, error)) string {
	c.t.Helper()
	x, err := build()
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := volfile.Print(x)
	if err != nil {
		c.t.Fatal(err)
	}
	path := filepath.Join(c.dir, name+".vol")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// Replace gives a stopped brick an empty disk, and starts it.
func (c *Cluster) Replace(i int) {
	c.t.Helper()
	if err := os.RemoveAll(c.at(i).Directory); err != nil {
		c.t.Fatal(err)
	}
	c.prepare(i)
	c.StartBrick(i)
}

// logTail is how many bytes of each log a failure shows.
const logTail = 3000

// Eventually waits until a condition holds. If it never does, the test fails with the end of
// every log.
func (c *Cluster) Eventually(what string, holds func() bool) {
	c.t.Helper()
	await.True(c.t, what, holds, func() string {
		all := ""
		logs, _ := filepath.Glob(filepath.Join(c.dir, "*.log"))
		for _, l := range logs {
			text, _ := os.ReadFile(l)
			all += fmt.Sprintf("%s:\n%s\n", l, text[max(0, len(text)-logTail):])
		}
		return all
	})
}
