// Package bricks starts real glusterfsd bricks, mounts and self-heal daemons from
// graphs of package volfile, on loopback, for tests.
package bricks

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/netns"
)

// Cluster is a pool's processes on this machine.
type Cluster struct {
	t      testing.TB
	dir    string
	Pool   volfile.Pool
	Bricks []*exec.Cmd // by brick index, the tiebreaker last
	agents []int
	// network is the namespace that bricks are in, with their address; "" is the machine's,
	// on loopback.
	network, address string
}

// Bare is a cluster without bricks, for processes of a test whose files are in dir.
func Bare(t testing.TB, dir string) *Cluster { return &Cluster{t: t, dir: dir} }

// Start prepares and starts all bricks of a pool, on ports that were free.
func Start(t testing.TB, kind schema.Type, bricks int, shape func(*volfile.Pool)) *Cluster {
	t.Helper()
	return StartIn(t, "", "127.0.0.1", kind, bricks, shape)
}

// StartIn is Start in a network namespace, by its path, which has this address.
func StartIn(t testing.TB, network, address string, kind schema.Type, bricks int, shape func(*volfile.Pool)) *Cluster {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("starts real bricks and mounts: needs root, and no -short")
	}
	if _, err := exec.LookPath("glusterfsd"); err != nil {
		t.Skip("glusterfsd is not installed: run make deps")
	}
	c := &Cluster{t: t, dir: t.TempDir(), network: network, address: address, Pool: volfile.Pool{Name: "p", Type: kind, VolumeID: uuid.NewString()}}
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

// Grow adds bricks to the pool and starts them; clients do not know of them.
func (c *Cluster) Grow(n int) {
	c.t.Helper()
	first := len(c.Pool.Bricks)
	c.Extend(n)
	for i := range n {
		c.StartBrick(first + i)
	}
}

// Extend adds bricks to the pool and starts none.
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
	if err := c.inside(func() error {
		l, err := net.Listen("tcp", c.address+":0")
		if err != nil {
			return err
		}
		port = l.Addr().(*net.TCPAddr).Port
		return l.Close()
	}); err != nil {
		c.t.Fatal(err)
	}
	return volfile.Endpoint{Host: c.address, Port: port, Directory: filepath.Join(c.dir, name)}
}

// inside does something in the network of the bricks.
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

// prepare makes the folder of a brick as glusterfsd wants to find it.
func (c *Cluster) prepare(i int) {
	c.t.Helper()
	dir := c.at(i).Directory
	if err := os.MkdirAll(filepath.Join(dir, ".glusterfs"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	id := uuid.MustParse(c.Pool.VolumeID)
	if err := unix.Setxattr(dir, "trusted.glusterfs.volume-id", id[:], 0); err != nil {
		c.t.Fatalf("marking %s: %v", dir, err)
	}
}

// StartBrick starts the brick at index i, the tiebreaker last, and waits until it listens.
func (c *Cluster) StartBrick(i int) {
	c.t.Helper()
	build := func() (*volfile.Xlator, error) { return volfile.Brick(c.Pool, i) }
	if i == len(c.Pool.Bricks) {
		build = func() (*volfile.Xlator, error) { return volfile.Tiebreaker(c.Pool) }
	}
	name := fmt.Sprintf("brick-%d", i)
	at := c.at(i)
	brick := append(c.command("glusterfsd"), "-N", "-f", c.write(name, build), "--volfile-id", "p."+name,
		"--brick-name", at.Directory, "--process-name", "brick", "-l", c.log(name), "-S", filepath.Join(c.dir, name+".sock"))
	c.Bricks[i] = c.Run(brick[0], brick[1:]...)
	c.listens(name, at)
}

// listens waits until a process that was started does.
func (c *Cluster) listens(name string, at volfile.Endpoint) {
	c.t.Helper()
	c.Eventually(20*time.Second, name+" listens", func() bool {
		return c.inside(func() error {
			conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", at.Host, at.Port), time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		}) == nil
	})
}

// command is a program in the network of the bricks.
func (c *Cluster) command(program string) []string {
	if c.network == "" {
		return []string{program}
	}
	return []string{"nsenter", "--net=" + c.network, program}
}

// Run starts a process and ends it with the test.
func (c *Cluster) Run(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn.Start(cmd); err != nil { // threads end, such as those that were in a namespace
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { Stop(cmd) })
	return cmd
}

// Stop kills a process that Run has started, and waits for it.
func Stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func (c *Cluster) log(name string) string { return filepath.Join(c.dir, name+".log") }

// write prints a graph into a file and gives the file's path.
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

// Mount mounts a client graph and waits until its root answers.
func (c *Cluster) Mount(name string, build func(volfile.Pool) (*volfile.Xlator, error)) string {
	c.t.Helper()
	dir := filepath.Join(c.dir, "mount-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	vol := c.write(name, func() (*volfile.Xlator, error) { return build(c.Pool) })
	c.Run("glusterfs", "-N", "-f", vol, "-l", c.log(name), dir)
	c.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	c.Eventually(20*time.Second, name+" is mounted", func() bool {
		var st unix.Stat_t
		return unix.Stat(dir, &st) == nil && st.Ino == 1 // the root of every GlusterFS mount
	})
	return dir
}

// Heal starts a self-heal daemon, which heals all bricks of this host.
func (c *Cluster) Heal() {
	vol := c.write("heal", func() (*volfile.Xlator, error) { return volfile.Heal(c.Pool) })
	daemon := append(c.command("glusterfs"), "-N", "-f", vol, "--process-name", "glustershd", "--client-pid=-6", "--volfile-id", "shd/p",
		"-l", c.log("heal"), "-S", filepath.Join(c.dir, "heal.sock"))
	c.Run(daemon[0], daemon[1:]...)
}

// HealSocket is that of the self-heal daemon.
func (c *Cluster) HealSocket() string { return filepath.Join(c.dir, "heal.sock") }

// HealVolfile is the daemon's volfile.
func (c *Cluster) HealVolfile() string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "heal.vol"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// Replace gives a brick that was stopped an empty disk, and starts it.
func (c *Cluster) Replace(i int) {
	c.t.Helper()
	if err := os.RemoveAll(c.at(i).Directory); err != nil {
		c.t.Fatal(err)
	}
	c.prepare(i)
	c.StartBrick(i)
}

// Eventually polls until ok, and fails the test with the end of every log.
func (c *Cluster) Eventually(limit time.Duration, what string, ok func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			logs, _ := filepath.Glob(filepath.Join(c.dir, "*.log"))
			for _, l := range logs {
				text, _ := os.ReadFile(l)
				c.t.Logf("%s:\n%s", l, text[max(0, len(text)-3000):])
			}
			c.t.Fatalf("after %s it is still not so that %s", limit, what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// PendingHeals counts what the bricks' indices list for healing.
func (c *Cluster) PendingHeals() int {
	n := 0
	for _, b := range c.Pool.Bricks {
		for _, index := range []string{"xattrop", "dirty"} {
			entries, _ := os.ReadDir(filepath.Join(b.Directory, ".glusterfs/indices", index))
			for _, e := range entries {
				if !strings.HasPrefix(e.Name(), "xattrop-") && !strings.HasPrefix(e.Name(), "dirty-") {
					n++
				}
			}
		}
	}
	return n + c.Blamed()
}

// Blamed counts the bricks that the thin arbiter still holds for stale: it is
// asked only when a brick is away, and then overrules the bricks' own marks.
func (c *Cluster) Blamed() int {
	if c.Pool.Tiebreaker == nil {
		return 0
	}
	n := 0
	marks, _ := filepath.Glob(filepath.Join(c.Pool.Tiebreaker.Directory, "*"))
	for _, mark := range marks {
		for i := range c.Pool.Bricks {
			value := make([]byte, 64)
			size, err := unix.Getxattr(mark, fmt.Sprintf("trusted.afr.%s-client-%d", c.Pool.Name, i), value)
			if err == nil && strings.Trim(string(value[:size]), "\x00") != "" {
				n++
			}
		}
	}
	return n
}
