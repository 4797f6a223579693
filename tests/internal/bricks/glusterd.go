package bricks

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/spawn"
)

// Glusterd is a real management daemon on a loopback address that no other uses, with its files
// in a directory of the test.
type Glusterd struct {
	Dir      string // of all of its files
	t        testing.TB
	address  string
	names    string // hosts file that only its processes see, or ""
	*Cluster        // for processes and waiting
}

// StartGlusterd starts the daemon on an address such as 127.1.1.1. The names resolve to that
// address, for the daemon and its bricks only.
func StartGlusterd(t testing.TB, address string, names ...string) *Glusterd {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("starts a real glusterd: needs root, and no -short")
	}
	if _, err := exec.LookPath("glusterd"); err != nil {
		t.Skip("glusterd is not installed: run make deps")
	}
	dir := tempDir(t)
	g := &Glusterd{t: t, Dir: dir, address: address, Cluster: Bare(t, dir)}
	if len(names) > 0 {
		g.names = filepath.Join(dir, "hosts")
		if err := os.WriteFile(g.names, []byte("127.0.0.1 localhost\n"+address+" "+strings.Join(names, " ")+"\n"),
			0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"work", "run", "log"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	vol := fmt.Sprintf("volume management\n    type mgmt/glusterd\n    option working-directory %[1]s/work\n    option run-directory %[1]s/run\n"+
		"    option glusterd-sockfile %[1]s/run/glusterd.socket\n    option logging-directory %[1]s/log\n    option transport-type socket\n"+
		"    option transport.socket.bind-address %[2]s\n    option transport.address-family inet\nend-volume\n", dir,
		address)
	if err := os.WriteFile(filepath.Join(dir, "glusterd.vol"), []byte(vol), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.stopBricks) // after glusterd itself has ended
	g.daemon("glusterd", "-N", "-f", filepath.Join(dir, "glusterd.vol"), "-p", filepath.Join(dir, "pid"), "-l",
		filepath.Join(dir, "log/glusterd.log"))
	g.Eventually("glusterd answers", func() bool { _, err := g.Try("volume", "list"); return err == nil })
	return g
}

// daemon starts a process that knows the names and ends with the test.
func (g *Glusterd) daemon(name string, args ...string) {
	g.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.start(cmd); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { Stop(cmd) })
}

// start starts a command that knows the names.
func (g *Glusterd) start(cmd *exec.Cmd) error {
	if g.names == "" {
		return spawn.Start(cmd)
	}
	done := make(chan struct{})
	g.t.Cleanup(func() { close(done) })
	prepare, err := spawn.Hosts(g.names, g.Dir)
	if err != nil {
		return err
	}
	g.t.Cleanup(func() { unix.Unmount(g.Dir, unix.MNT_DETACH) })
	return spawn.StartAside(cmd, prepare, done)
}

func (g *Glusterd) command(args ...string) *exec.Cmd {
	return exec.Command("gluster", append([]string{"--mode=script", "--glusterd-sock=" +
		filepath.Join(g.Dir, "run/glusterd.socket"), "--log-file=" + filepath.Join(g.Dir, "log/cli.log")}, args...)...)
}

// Try runs a command of the gluster CLI, and returns what it prints.
func (g *Glusterd) Try(args ...string) (string, error) {
	cmd := g.command(args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := g.start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// Do runs a command of the gluster CLI.
func (g *Glusterd) Do(args ...string) {
	g.t.Helper()
	if out, err := g.Try(args...); err != nil {
		g.t.Fatalf("gluster %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// Create creates a volume of n bricks; shape is, for example, "replica", "3".
func (g *Glusterd) Create(name string, n int, shape ...string) {
	g.t.Helper()
	g.CreateAt(slices.Repeat([]string{g.address}, n), name, shape...)
}

// CreateAt creates a volume with a brick on each of the hosts, given by name.
func (g *Glusterd) CreateAt(hosts []string, name string, shape ...string) {
	g.t.Helper()
	args := append([]string{"volume", "create", name}, shape...)
	for i, host := range hosts {
		args = append(args, fmt.Sprintf("%s:%s/brick-%s-%d", host, g.Dir, name, i))
	}
	g.Do(append(args, "force")...)
}

// CreateIn creates a volume of bricks in these directories.
func (g *Glusterd) CreateIn(directories []string, name string, shape ...string) {
	g.t.Helper()
	args := append([]string{"volume", "create", name}, shape...)
	for _, dir := range directories {
		args = append(args, g.address+":"+dir)
	}
	g.Do(append(args, "force")...)
}

// Mounted is the directory at which MountVolume mounts a volume.
func (g *Glusterd) Mounted(volume string) string { return filepath.Join(g.Dir, "mount-"+volume) }

// MountVolume mounts a started volume, and waits until it answers.
func (g *Glusterd) MountVolume(volume string) string {
	g.t.Helper()
	dir := g.Mounted(volume)
	if err := os.Mkdir(dir, 0o700); err != nil {
		g.t.Fatal(err)
	}
	g.daemon("glusterfs", "-N", "-s", g.address, "--volfile-id", volume, "-l",
		filepath.Join(g.Dir, "log/mount-"+volume+".log"), dir)
	g.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	g.Eventually(volume+" is mounted", func() bool { return IsMounted(dir) })
	return dir
}

// stopBricks kills the processes that glusterd started, by the pid files below its run
// directory.
func (g *Glusterd) stopBricks() {
	_ = filepath.WalkDir(filepath.Join(g.Dir, "run"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".pid" {
			return nil
		}
		text, err := os.ReadFile(path)
		pid, convert := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || convert != nil {
			return nil
		}
		// The number may belong to another process by now.
		if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil &&
			strings.Contains(string(cmdline), g.Dir) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return nil
	})
}
