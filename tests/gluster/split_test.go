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

// split makes two bricks blame each other for files: each takes a write while the other is
// down. No client may be left, and none stays: one that sees both bricks heals what does not
// contradict yet.
func split(t *testing.T, c *bricks.Cluster, files ...string) {
	t.Helper()
	for up, text := range []string{"first, and longer", "second"} {
		down := 1 - up
		bricks.Stop(c.Bricks[down])
		if c.Bricks[up].ProcessState != nil {
			c.StartBrick(up)
		}
		dir := c.Mount(fmt.Sprintf("alone-%d-%d", up, time.Now().UnixNano()), volfile.Client)
		for _, file := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// The client notes what the other brick lacks some time after the write was answered.
		c.Eventually(fmt.Sprintf("brick %d blames the other one", up), func() bool {
			for _, file := range files {
				if !c.Blames(up, down, file) {
					return false
				}
			}
			return true
		})
		c.Unmount(dir)
		bricks.Stop(c.Bricks[up])
	}
	for i := range 2 {
		c.StartBrick(i)
	}
}

// TestSplitBrain resolves split-brains by policy and by name of a brick with 'atoll heal', and
// by an option of the pool.
func TestSplitBrain(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica2, 2, func(p *volfile.Pool) {
		p.Bricks[1].Host = "127.0.0.2" // agents expect each other on the same port
		p.Options = map[string]string{"cluster.quorum-type": "none", "network.ping-timeout": "5"}
	})
	before := c.Mount("before", volfile.Client)
	for _, file := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(before, file), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.Unmount(before)
	split(t, c, "a", "b", "c")
	h := host.Bare(t)
	run := startAgents(t, c, h)
	lists := func(n int) bool { // agents may not have started yet
		var all []agent.Split
		out, err := run("keys", "split-brain", "p", "-o", "json")
		return err == nil && json.Unmarshal([]byte(out), &all) == nil && len(all) == n
	}
	c.Eventually("three files are listed", func() bool { return lists(3) })
	if out, err := run("keys", "split-brain", "p"); err != nil || !strings.Contains(out,
		"FILE  ABOUT  BRICK  BYTES  MODIFIED") || !strings.Contains(out, "/a    data   0      17") {
		t.Errorf("the table: %v\n%s", err, out)
	}
	c.Eventually("both agents count the files", func() bool {
		out, err := run("keys", "status", "p")
		return err == nil && strings.Count(out, "3 files in split-brain") == 2
	})
	after := c.Mount("after", volfile.Client)
	if text, err := os.ReadFile(filepath.Join(after, "a")); err == nil {
		t.Errorf("a file in split-brain was read: %q", text)
	}
	refusedResolutions(t, run)
	if !lists(3) {
		t.Error("a refused command changed something")
	}
	reads := func(dir, file, want string) {
		t.Helper()
		c.Eventually(file+" has "+want, func() bool {
			text, err := os.ReadFile(filepath.Join(dir, file))
			return err == nil && string(text) == want
		})
	}
	for file, keep := range map[string]string{"a": "latest", "b": "bigger"} {
		if out, err := run("keys", "resolve", "p", "/"+file, "--keep="+keep); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	reads(after, "a", "second")
	reads(after, "b", "first, and longer")
	if out, err := run("keys", "resolve", "p", "--all", "--keep=brick=0"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	reads(after, "c", "first, and longer")
	c.Eventually("nothing is pending", func() bool { return c.PendingHeals() == 0 && lists(0) })

	c.Unmount(after)
	c.Pool.Options["cluster.favorite-child-policy"] = "mtime"
	split(t, c, "a")
	reads(c.Mount("policy", volfile.Client), "a", "second")
}

// refusedResolutions checks that commands with a wrong key, file, policy or brick are refused.
func refusedResolutions(t *testing.T, run func(keys string, args ...string) (string, error)) {
	t.Helper()
	for _, args := range [][]string{
		{"others", "resolve", "p", "--all", "--keep=latest"},
		{"keys", "resolve", "p", "/none", "--keep=latest"},
		{"keys", "resolve", "p", "--all", "--keep=best"},
		{"keys", "resolve", "p", "--all", "--keep=brick=7"},
		{"keys", "resolve", "p", "--keep=latest"},
	} {
		if out, err := run(args[0], args[1:]...); err == nil {
			t.Errorf("%v was accepted: %s", args, out)
		}
	}
}
