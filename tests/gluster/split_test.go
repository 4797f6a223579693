package gluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// split has two bricks hold each other to be wrong about files: each takes writes alone.
func split(t *testing.T, c *bricks.Cluster, files ...string) {
	t.Helper()
	write := func(down int, text string) {
		t.Helper()
		bricks.Stop(c.Bricks[down])
		dir := c.Mount(fmt.Sprintf("alone-%d-%d", down, time.Now().UnixNano()), volfile.Client)
		for _, file := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(1, "first, and longer")
	bricks.Stop(c.Bricks[0])
	c.StartBrick(1)
	write(0, "second")
	c.StartBrick(0)
}

// TestSplitBrain has people decide which brick is right, by a policy and by name, and
// then the pool's own options.
func TestSplitBrain(t *testing.T) {
	c := bricks.Start(t, schema.Replica2, 2, func(p *volfile.Pool) {
		p.Bricks[1].Host = "127.0.0.2" // agents look for each other on the same port
		p.Options = map[string]string{"cluster.quorum-type": "none", "network.ping-timeout": "5"}
	})
	before := c.Mount("before", volfile.Client)
	for _, file := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(before, file), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	split(t, c, "a", "b", "c")
	h := host.Bare(t)
	run := startAgents(t, c, h)
	lists := func(n int) bool { // agents may not have started yet
		var all []agent.Split
		out, err := run("keys", "split-brain", "p", "-o", "json")
		return err == nil && json.Unmarshal([]byte(out), &all) == nil && len(all) == n
	}
	c.Eventually(20*time.Second, "three files are listed", func() bool { return lists(3) })
	if out, err := run("keys", "split-brain", "p"); err != nil || !strings.Contains(out, "FILE  ABOUT  BRICK  BYTES  MODIFIED") || !strings.Contains(out, "/a    data   0      17") {
		t.Errorf("%v\n%s", err, out)
	}
	c.Eventually(90*time.Second, "bricks know by themselves that files cannot be read", func() bool {
		out, err := run("keys", "status", "p")
		return err == nil && strings.Count(out, "3 files in split-brain") == 2
	})
	after := c.Mount("after", volfile.Client)
	if text, err := os.ReadFile(filepath.Join(after, "a")); err == nil {
		t.Errorf("a file about which bricks disagree has %q", text)
	}
	for _, args := range [][]string{
		{"others", "resolve", "p", "--all", "--keep=latest"},
		{"keys", "resolve", "p", "/none", "--keep=latest"},
		{"keys", "resolve", "p", "--all", "--keep=best"},
		{"keys", "resolve", "p", "--all", "--keep=brick=7"},
		{"keys", "resolve", "p", "--keep=latest"},
	} {
		if out, err := run(args[0], args[1:]...); err == nil {
			t.Errorf("%v: %s", args, out)
		}
	}
	if !lists(3) {
		t.Error("what was refused has changed something")
	}
	reads := func(file, want string) {
		t.Helper()
		c.Eventually(30*time.Second, file+" has "+want, func() bool {
			text, err := os.ReadFile(filepath.Join(after, file))
			return err == nil && string(text) == want
		})
	}
	for file, keep := range map[string]string{"a": "latest", "b": "bigger"} {
		if out, err := run("keys", "resolve", "p", "/"+file, "--keep="+keep); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	reads("a", "second")
	reads("b", "first, and longer")
	if out, err := run("keys", "resolve", "p", "--all", "--keep=brick=0"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	reads("c", "first, and longer")
	c.Eventually(30*time.Second, "nothing is left", func() bool { return c.PendingHeals() == 0 && lists(0) })

	c.Pool.Options["cluster.favorite-child-policy"] = "mtime"
	after = c.Mount("policy", volfile.Client)
	split(t, c, "a")
	reads("a", "second")
}
