package bricks

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/internal/linux/filesystem/fstest"
	"github.com/atoll-storage/atoll/render/volfile"
)

// StartAgents starts an agent for each brick, with the keys in a directory. These agents heal
// nothing.
func (c *Cluster) StartAgents(program, keys string) {
	c.t.Helper()
	var ports []int
	for i, b := range c.Pool.Bricks {
		at := c.endpoint("")
		agent := append(c.command(program), "agent", "--namespace=atoll-system", "--pool="+c.Pool.Name,
			"--brick="+strconv.Itoa(i), "--directory="+b.Directory,
			"--port="+strconv.Itoa(b.Port), fmt.Sprintf("--listen=%s:%d", at.Host, at.Port), "--keys="+keys)
		c.Run(agent[0], agent[1:]...)
		ports = append(ports, at.Port)
		c.listens(fmt.Sprintf("agent %d", i), at)
	}
	c.Agents(ports)
}

// Keys creates a directory with one key of agents.
func Keys(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "1"), []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// OnXFS puts the bricks of a pool on an XFS, whose files can share content (reflink).
func OnXFS(t testing.TB, p *volfile.Pool) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "mounted")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	fstest.MountXFS(t, at)
	for i := range p.Bricks {
		p.Bricks[i].Directory = filepath.Join(at, fmt.Sprintf("brick-%d", i))
	}
}
