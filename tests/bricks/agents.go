package bricks

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/render/volfile"
)

// StartAgents starts an agent for each brick, with the keys of a folder. They heal nothing.
func (c *Cluster) StartAgents(program, keys string) {
	c.t.Helper()
	var ports []int
	for i, b := range c.Pool.Bricks {
		at := c.endpoint("")
		agent := append(c.command(program), "agent", "--namespace=atoll-system", "--pool="+c.Pool.Name, "--brick="+strconv.Itoa(i), "--directory="+b.Directory,
			"--port="+strconv.Itoa(b.Port), fmt.Sprintf("--listen=%s:%d", at.Host, at.Port), "--keys="+keys)
		c.Run(agent[0], agent[1:]...)
		ports = append(ports, at.Port)
		c.listens("the agent", at)
	}
	c.Agents(ports)
}

// Keys makes a folder with a key.
func Keys(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "1"), []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// xfsSize is that of the file system that MountXFS makes, in bytes; it takes what is written.
const xfsSize = 20 << 30

// OnXFS has the bricks of a pool on a file system whose files can share their content.
func OnXFS(t testing.TB, p *volfile.Pool) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "mounted")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	MountXFS(t, at)
	for i := range p.Bricks {
		p.Bricks[i].Directory = filepath.Join(at, fmt.Sprintf("brick-%d", i))
	}
}

// MountXFS mounts a new file system over a folder until the test ends.
func MountXFS(t testing.TB, at string) {
	t.Helper()
	disk, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	if err := disk.Truncate(xfsSize); err != nil {
		t.Fatal(err)
	}
	device, err := loop.Attach(disk, loop.AutoClear)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if err := filesystem.Make(t.Context(), device, filesystem.XFS, ""); err != nil {
		t.Fatal(err)
	}
	place, err := os.Open(at)
	if err != nil {
		t.Fatal(err)
	}
	defer place.Close()
	if err := filesystem.Mount(device.Name(), filesystem.XFS, nil, place, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}
