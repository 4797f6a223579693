package podrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/atoll-storage/atoll/schema/catalog"
)

// rootInode is the inode of the root of every GlusterFS mount.
const rootInode = 1

// Mount mounts the pool with a graph of its catalog entry (catalog.KeyFiles or
// catalog.KeyBlocks), from a network namespace of its own, as a node would, and
// gives the folder where this machine sees it.
func (c *Cluster) Mount(ctx context.Context, graph string) (string, error) {
	text := ""
	for _, o := range c.objects {
		if m, is := o.(*corev1.ConfigMap); is && m.Labels[catalog.Label] != "" {
			text = m.Data[graph]
		}
	}
	if text == "" {
		return "", fmt.Errorf("the catalog has no %s", graph)
	}
	_, network, err := c.network.add()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(filepath.Join(c.Dir, "mnt"), "volume-")
	if err != nil {
		return "", err
	}
	shared := filepath.Join(c.Dir, "mnt")
	volfile := dir + ".vol"
	if err := os.WriteFile(volfile, []byte(text), 0o600); err != nil {
		return "", err
	}
	name := filepath.Base(dir)
	run, err := c.spawn(setup{
		Network: network, Hosts: c.hosts(), Shared: shared,
		Command: []string{"glusterfs", "-N", "-f", volfile, "-l", c.logFile("client", name), dir},
	}, c.logFile("client", name+".out"))
	if err != nil {
		return "", err
	}
	c.undo = append(c.undo, run.kill)
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err == nil && st.Ino == rootInode {
			return dir, nil
		}
		select {
		case <-run.done:
			return "", errors.New("the client ended:\n" + c.Log("client", name))
		case <-ctx.Done():
			return "", fmt.Errorf("the pool is not mounted: %w\n%s", ctx.Err(), c.Log("client", name))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Connected counts the bricks to which a mount has a connection, as the client
// itself shows below .meta.
func Connected(mount string) int {
	clients, _ := filepath.Glob(filepath.Join(mount, ".meta/graphs/active/*-client-*/private"))
	n := 0
	for _, c := range clients {
		if text, err := os.ReadFile(c); err == nil && strings.Contains(string(text), "connected = 1") {
			n++
		}
	}
	return n
}

// Backlog counts what the index of a brick still lists for healing. folder is
// the brick's.
func Backlog(folder string) int {
	n := 0
	for _, index := range []string{"xattrop", "dirty"} {
		entries, _ := os.ReadDir(filepath.Join(folder, ".glusterfs/indices", index))
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), index+"-") {
				n++
			}
		}
	}
	return n
}
