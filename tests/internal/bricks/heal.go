package bricks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/render/volfile"
)

// Heal starts a self-heal daemon, which heals all bricks of this host.
func (c *Cluster) Heal() {
	vol := c.write("heal", func() (*volfile.Xlator, error) { return volfile.Heal(c.Pool) })
	daemon := append(c.command("glusterfs"), "-N", "-f", vol, "--process-name", "glustershd", "--client-pid=-6",
		"--volfile-id", "shd/p",
		"-l", c.log("heal"), "-S", c.HealSocket())
	c.Run(daemon[0], daemon[1:]...)
}

// HealSocket is the socket of the self-heal daemon.
func (c *Cluster) HealSocket() string { return filepath.Join(c.dir, "heal.sock") }

// HealVolfile is the text of the daemon's volfile.
func (c *Cluster) HealVolfile() string {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "heal.vol"))
	if err != nil {
		c.t.Fatal(err)
	}
	return string(text)
}

// PendingHeals counts what all bricks list for healing.
func (c *Cluster) PendingHeals() int {
	n := 0
	for _, b := range c.Pool.Bricks {
		n += PendingOn(b.Directory)
	}
	return n + c.Blamed()
}

// PendingOn counts what the index of a brick lists for healing, given the brick's directory.
func PendingOn(dir string) int {
	n := 0
	for _, index := range []string{"xattrop", "dirty"} {
		entries, _ := os.ReadDir(filepath.Join(dir, ".glusterfs/indices", index))
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), index+"-") {
				n++
			}
		}
	}
	return n
}

// Blamed counts the bricks that the thin arbiter marks as stale. Clients ask it only while a
// brick is down, and then believe it before the bricks' own marks.
func (c *Cluster) Blamed() int {
	if c.Pool.Tiebreaker == nil {
		return 0
	}
	n := 0
	marks, _ := filepath.Glob(filepath.Join(c.Pool.Tiebreaker.Directory, "*"))
	for _, mark := range marks {
		for i := range c.Pool.Bricks {
			if c.pending(mark, i) {
				n++
			}
		}
	}
	return n
}

// Blames reports whether a brick's copy of a file has counters of pending changes against
// another brick.
func (c *Cluster) Blames(brick, other int, file string) bool {
	return c.pending(filepath.Join(c.Pool.Bricks[brick].Directory, file), other)
}

func (c *Cluster) pending(path string, brick int) bool {
	value := make([]byte, 64)
	size, err := unix.Getxattr(path, fmt.Sprintf("trusted.afr.%s-client-%d", c.Pool.Name, brick), value)
	return err == nil && strings.Trim(string(value[:size]), "\x00") != ""
}
