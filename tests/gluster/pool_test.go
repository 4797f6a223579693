// Package gluster starts real glusterfsd bricks, mounts and self-heal daemons
// from rendered volfiles, on loopback, and breaks them.
package gluster

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
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

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
)

// cluster is a pool's processes on this machine.
type cluster struct {
	t      *testing.T
	dir    string
	pool   volfile.Pool
	bricks []*exec.Cmd // by brick index, the tiebreaker last
}

// start prepares and starts all bricks of a pool, on ports that were free.
func start(t *testing.T, kind schema.Type, bricks int, shape func(*volfile.Pool)) *cluster {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("starts real bricks and mounts: needs root, and no -short")
	}
	if _, err := exec.LookPath("glusterfsd"); err != nil {
		t.Skip("glusterfsd is not installed: run make deps")
	}
	c := &cluster{t: t, dir: t.TempDir(), pool: volfile.Pool{Name: "p", Type: kind, VolumeID: uuid.NewString()}}
	for i := range bricks {
		c.pool.Bricks = append(c.pool.Bricks, c.endpoint(fmt.Sprintf("brick-%d", i)))
	}
	if shape != nil {
		shape(&c.pool)
	}
	n := bricks
	if c.pool.Tiebreaker != nil {
		at := c.endpoint("tiebreaker")
		c.pool.Tiebreaker, n = &at, n+1
	}
	c.bricks = make([]*exec.Cmd, n)
	for i := range n {
		c.prepare(i)
		c.startBrick(i)
	}
	return c
}

func (c *cluster) endpoint(name string) volfile.Endpoint {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	defer l.Close()
	return volfile.Endpoint{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port, Directory: filepath.Join(c.dir, name)}
}

func (c *cluster) at(i int) volfile.Endpoint {
	if i == len(c.pool.Bricks) {
		return *c.pool.Tiebreaker
	}
	return c.pool.Bricks[i]
}

// prepare makes the folder of a brick as glusterfsd wants to find it.
func (c *cluster) prepare(i int) {
	c.t.Helper()
	dir := c.at(i).Directory
	if err := os.MkdirAll(filepath.Join(dir, ".glusterfs"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	id := uuid.MustParse(c.pool.VolumeID)
	if err := unix.Setxattr(dir, "trusted.glusterfs.volume-id", id[:], 0); err != nil {
		c.t.Fatalf("marking %s: %v", dir, err)
	}
}

func (c *cluster) startBrick(i int) {
	c.t.Helper()
	build := func() (*volfile.Xlator, error) { return volfile.Brick(c.pool, i) }
	if i == len(c.pool.Bricks) {
		build = func() (*volfile.Xlator, error) { return volfile.Tiebreaker(c.pool) }
	}
	name := fmt.Sprintf("brick-%d", i)
	at := c.at(i)
	c.bricks[i] = c.run("glusterfsd", "-N", "-f", c.write(name, build), "--volfile-id", "p."+name,
		"--brick-name", at.Directory, "--process-name", "brick", "-l", c.log(name), "-S", filepath.Join(c.dir, name+".sock"))
	c.eventually(20*time.Second, name+" listens", func() bool {
		conn, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", at.Host, at.Port), time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// run starts a process and ends it with the test.
func (c *cluster) run(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { stop(cmd) })
	return cmd
}

func stop(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func (c *cluster) log(name string) string { return filepath.Join(c.dir, name+".log") }

// write prints a graph into a file and gives the file's path.
func (c *cluster) write(name string, build func() (*volfile.Xlator, error)) string {
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

// mountGraph mounts a client graph and waits until its root answers.
func (c *cluster) mountGraph(name string, build func(volfile.Pool) (*volfile.Xlator, error)) string {
	c.t.Helper()
	dir := filepath.Join(c.dir, "mount-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	vol := c.write(name, func() (*volfile.Xlator, error) { return build(c.pool) })
	c.run("glusterfs", "-N", "-f", vol, "-l", c.log(name), dir)
	c.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	c.eventually(20*time.Second, name+" is mounted", func() bool {
		var st unix.Stat_t
		return unix.Stat(dir, &st) == nil && st.Ino == 1 // the root of every GlusterFS mount
	})
	return dir
}

// heal starts a self-heal daemon, which heals all bricks of this host.
func (c *cluster) heal() {
	vol := c.write("heal", func() (*volfile.Xlator, error) { return volfile.Heal(c.pool) })
	c.run("glusterfs", "-N", "-f", vol, "--process-name", "glustershd", "--client-pid=-6", "--volfile-id", "shd/p",
		"-l", c.log("heal"), "-S", filepath.Join(c.dir, "heal.sock"))
}

// eventually polls until ok, and fails the test with the end of every log.
func (c *cluster) eventually(limit time.Duration, what string, ok func() bool) {
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

// files maps names to checksums.
type files map[string][32]byte

// write fills a folder of the mount with n small files and one of 8 MiB.
func write(t *testing.T, dir, prefix string, n int) files {
	t.Helper()
	written := files{}
	random := rand.NewChaCha8(sha256.Sum256([]byte(prefix)))
	for i := range n + 1 {
		size := i * 37
		if i == n {
			size = 8 << 20
		}
		data := make([]byte, size)
		random.Read(data)
		name := fmt.Sprintf("%s-%d", prefix, i)
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatalf("writing: %v", err)
		}
		written[name] = checksum(data)
	}
	return written
}

// verify reads every file back.
func (f files) verify(t *testing.T, dir string) {
	t.Helper()
	for name, sum := range f {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || checksum(data) != sum {
			t.Fatalf("reading %s: wrong content or %v", name, err)
		}
	}
}

// pendingHeals counts what the bricks' indices list for healing.
func (c *cluster) pendingHeals() int {
	n := 0
	for _, b := range c.pool.Bricks {
		for _, index := range []string{"xattrop", "dirty"} {
			entries, _ := os.ReadDir(filepath.Join(b.Directory, ".glusterfs/indices", index))
			for _, e := range entries {
				if !strings.HasPrefix(e.Name(), "xattrop-") && !strings.HasPrefix(e.Name(), "dirty-") {
					n++
				}
			}
		}
	}
	return n + c.blamed()
}

// blamed counts the bricks that the thin arbiter still holds for stale: it is
// asked only when a brick is away, and then overrules the bricks' own marks.
func (c *cluster) blamed() int {
	if c.pool.Tiebreaker == nil {
		return 0
	}
	n := 0
	marks, _ := filepath.Glob(filepath.Join(c.pool.Tiebreaker.Directory, "*"))
	for _, mark := range marks {
		for i := range c.pool.Bricks {
			value := make([]byte, 64)
			size, err := unix.Getxattr(mark, fmt.Sprintf("trusted.afr.%s-client-%d", c.pool.Name, i), value)
			if err == nil && strings.Trim(string(value[:size]), "\x00") != "" {
				n++
			}
		}
	}
	return n
}

func checksum(data []byte) [32]byte { return sha256.Sum256(data) }
