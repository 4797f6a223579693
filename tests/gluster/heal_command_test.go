package gluster

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// startAgents starts the self-heal daemon and the agents of all bricks. It returns a function that
// runs 'atoll heal' with the keys of a directory: "keys", or "others", which agents refuse.
func startAgents(t *testing.T, c *bricks.Cluster, h *host.Host) func(keys string, args ...string) (string, error) {
	t.Helper()
	atoll, brick := h.Build("atoll"), h.Build("atoll-brick")
	for dir, text := range map[string]string{"keys": strings.Repeat("k", 32), "others": strings.Repeat("x", 32)} {
		if err := os.Mkdir(h.Path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(h.Path(dir+"/1"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Heal()
	var ports []int
	_, common, _ := net.SplitHostPort(host.Address(t)) // agents on several hosts have the same port
	for i, b := range c.Pool.Bricks {
		port := common
		if i > 0 && b.Host == c.Pool.Bricks[0].Host {
			_, port, _ = net.SplitHostPort(host.Address(t))
		}
		address := net.JoinHostPort(b.Host, port)
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, n)
		c.Run(brick, "agent", "--namespace=atoll-system", "--pool=p", "--brick="+strconv.Itoa(i),
			"--directory="+b.Directory, "--port="+strconv.Itoa(b.Port),
			"--listen="+address, "--keys="+h.Path("keys"), "--heal-volfile="+
				filepath.Join(filepath.Dir(c.HealSocket()), "heal.vol"), "--heal-socket="+c.HealSocket())
	}
	c.Agents(ports)
	c.Catalog(h.Catalog(), schema.Subdirectory)
	return func(keys string, args ...string) (string, error) {
		out, err := exec.Command(atoll, append([]string{
			"heal", "--catalog", h.Catalog().Dir, "--agent-keys",
			h.Path(keys),
		}, args...)...).CombinedOutput()
		return string(out), err
	}
}

// TestHealCommand shows the status of bricks with 'atoll heal', and has a brick healed whose disk
// was replaced without notice.
func TestHealCommand(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica3, 3, nil)
	h := host.Bare(t)
	run := startAgents(t, c, h)
	type line struct{ Status *agent.Status }
	status := func() (lines []line) {
		t.Helper()
		out, err := run("keys", "status", "p", "-o", "json")
		if err != nil || json.Unmarshal([]byte(out), &lines) != nil || len(lines) != 3 {
			t.Fatalf("status: %v\n%s", err, out)
		}
		return lines
	}
	c.Eventually("all bricks are online", func() bool {
		for _, l := range status() {
			if l.Status == nil || !l.Status.Online {
				return false
			}
		}
		return true
	})
	mounted := c.Mount("client", volfile.Client)
	written := bricks.Write(t, mounted, "file", 20)
	bricks.Stop(c.Bricks[2])
	c.Eventually("the stopped brick is offline",
		func() bool { l := status()[2]; return l.Status != nil && !l.Status.Online })
	c.Replace(2)
	if out, err := run("others", "full", "p"); err == nil ||
		!strings.Contains(out, "brick 0: the agent refused the request: 401") {
		t.Errorf("with a wrong key: %v\n%s", err, out)
	}
	full := sometimes(func() { // a daemon that is not connected to the brick yet heals nothing there
		if out, err := run("keys", "full", "p"); err != nil || !strings.Contains(out, "heal started on 3 bricks") {
			t.Errorf("full: %v\n%s", err, out)
		}
	})
	c.Eventually("the new disk has all files", func() bool {
		full()
		for name := range written {
			var st unix.Stat_t
			if unix.Stat(filepath.Join(c.Pool.Bricks[2].Directory, name), &st) != nil {
				return false
			}
		}
		return c.PendingHeals() == 0
	})
	if out, err := run("keys", "start"); err != nil || !strings.Contains(out, "pool p: heal started on 3 bricks") {
		t.Errorf("start for all pools: %v\n%s", err, out)
	}
	if out, err := run("keys", "status"); err != nil || !strings.Contains(out, "POOL  BRICK  NODE  ONLINE  TO HEAL") ||
		strings.Count(out, "true") != 3 {
		t.Errorf("the table: %v\n%s", err, out)
	}
}
