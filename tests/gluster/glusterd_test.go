package gluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// glusterd is a real management daemon on a loopback address of its own, with
// its files in a folder of the test.
type glusterd struct {
	t       *testing.T
	dir     string
	address string
	cluster *cluster // for processes and waiting
}

func startGlusterd(t *testing.T, address string) *glusterd {
	t.Helper()
	if testing.Short() || os.Getuid() != 0 {
		t.Skip("starts a real glusterd: needs root, and no -short")
	}
	if _, err := exec.LookPath("glusterd"); err != nil {
		t.Skip("glusterd is not installed: run make deps")
	}
	// Socket paths are limited to 108 bytes: not below the test's long name.
	dir, err := os.MkdirTemp("", "gd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &glusterd{t: t, dir: dir, address: address, cluster: &cluster{t: t, dir: dir}}
	for _, name := range []string{"work", "run", "log"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	vol := fmt.Sprintf("volume management\n    type mgmt/glusterd\n    option working-directory %[1]s/work\n    option run-directory %[1]s/run\n"+
		"    option glusterd-sockfile %[1]s/run/glusterd.socket\n    option logging-directory %[1]s/log\n    option transport-type socket\n"+
		"    option transport.socket.bind-address %[2]s\n    option transport.address-family inet\nend-volume\n", dir, address)
	if err := os.WriteFile(filepath.Join(dir, "glusterd.vol"), []byte(vol), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.stopBricks) // after glusterd itself has ended
	g.cluster.run("glusterd", "-N", "-f", filepath.Join(dir, "glusterd.vol"), "-p", filepath.Join(dir, "pid"), "-l", filepath.Join(dir, "log/glusterd.log"))
	g.cluster.eventually(20*time.Second, "glusterd answers", func() bool { return g.try("volume", "list") == nil })
	return g
}

func (g *glusterd) command(args ...string) *exec.Cmd {
	return exec.Command("gluster", append([]string{"--mode=script", "--glusterd-sock=" + filepath.Join(g.dir, "run/glusterd.socket"), "--log-file=" + filepath.Join(g.dir, "log/cli.log")}, args...)...)
}

func (g *glusterd) try(args ...string) error { return g.command(args...).Run() }

func (g *glusterd) do(args ...string) {
	g.t.Helper()
	if out, err := g.command(args...).CombinedOutput(); err != nil {
		g.t.Fatalf("gluster %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// create makes a volume of n bricks; shape is such as "replica 3".
func (g *glusterd) create(name string, n int, shape ...string) {
	g.t.Helper()
	args := append([]string{"volume", "create", name}, shape...)
	for i := range n {
		args = append(args, fmt.Sprintf("%s:%s/brick-%s-%d", g.address, g.dir, name, i))
	}
	g.do(append(args, "force")...)
}

// stopBricks ends what glusterd started, by the pid files below its run folder.
func (g *glusterd) stopBricks() {
	_ = filepath.WalkDir(filepath.Join(g.dir, "run"), func(path string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".pid" {
			return nil
		}
		text, err := os.ReadFile(path)
		pid, convert := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || convert != nil {
			return nil
		}
		// Only if it is still one of ours.
		if cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.Contains(string(cmdline), g.dir) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return nil
	})
}

// volfiles gives what glusterd wrote for a volume: the graphs of a brick, of a
// client, and of the self-heal daemon.
func (g *glusterd) volfiles(name string) map[string]parsed {
	g.t.Helper()
	files := map[string]parsed{}
	all, err := filepath.Glob(filepath.Join(g.dir, "work/vols", name, "*.vol"))
	if err != nil || len(all) == 0 {
		g.t.Fatalf("glusterd has no volfiles of %s: %v", name, err)
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if err != nil {
			g.t.Fatal(err)
		}
		switch base := filepath.Base(path); {
		case base == name+".tcp-fuse.vol":
			files["client"] = parse(string(text))
		case base == name+"-shd.vol":
			files["heal"] = parse(string(text))
		case strings.HasSuffix(base, name+"-0.vol"):
			files["brick"] = parse(string(text))
		}
	}
	return files
}

// parsed maps the types of a graph's xlators to their options, of the first of a
// type.
type parsed map[string]map[string]string

func parse(volfile string) parsed {
	p := parsed{}
	kind := ""
	for line := range strings.Lines(volfile) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 2 && fields[0] == "type":
			kind = fields[1]
			if p[kind] != nil {
				kind += " again"
			}
			p[kind] = map[string]string{}
		case len(fields) >= 3 && fields[0] == "option":
			p[kind][fields[1]] = strings.Join(fields[2:], " ")
		}
	}
	return p
}
