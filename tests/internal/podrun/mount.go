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
	"github.com/atoll-storage/atoll/tests/internal/netns"
)

// rootInode is the inode of the root of every GlusterFS mount.
const rootInode = 1

// clientPort is where a client finds its volfile, on the loopback of its own network.
const clientPort = "24011"

// clientGraph is a graph of the pool's catalog entry, "" when it has none.
func (c *Cluster) clientGraph(graph string) string {
	for _, o := range c.objects {
		if m, is := o.(*corev1.ConfigMap); is && m.Labels[catalog.Label] != "" {
			return m.Data[graph]
		}
	}
	return ""
}

// Mount mounts the pool with a graph of its catalog entry (catalog.KeyFiles or
// catalog.KeyBlocks), from a network namespace of its own, as a node would, and
// gives the folder where this machine sees it. It hears of what Apply changes.
func (c *Cluster) Mount(ctx context.Context, graph string) (string, error) {
	text := c.clientGraph(graph)
	if text == "" {
		return "", fmt.Errorf("the catalog has no %s", graph)
	}
	_, network, err := c.network.Add()
	if err != nil {
		return "", err
	}
	shared := filepath.Join(c.Dir, "mnt")
	dir, err := os.MkdirTemp(shared, "volume-")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	volfile, name := dir+".vol", filepath.Base(dir)
	if err := replaceFile(volfile, text); err != nil {
		return "", err
	}
	if err := c.serveVolfile(ctx, network, volfile, name); err != nil {
		return "", err
	}
	run, err := c.spawn(setup{
		Network: network, Hosts: c.hostsFile(), Shared: shared,
		Command: []string{"glusterfs", "-N", "-s", "127.0.0.1", "--volfile-server-port=" + clientPort, "--volfile-id", "client", "-l", c.logFile("client", name), dir},
	}, c.logFile("client", name+".out"))
	if err != nil {
		return "", err
	}
	c.mounts[volfile] = graph
	c.clients[dir] = client{network, run}
	c.undo = append(c.undo, run.kill)
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

// client is the process behind a mount.
type client struct {
	network string
	run     *process
}

// ConnectClient takes the client of a mount off the network, or brings it back.
func (c *Cluster) ConnectClient(mount string, connected bool) error {
	return c.network.Connect(c.clients[mount].network, connected)
}

// Freeze has the client of a mount hear of no changes any more, as on a node that does not
// reach the API server.
func (c *Cluster) Freeze(mount string) { delete(c.mounts, mount+".vol") }

// Thaw has the client of a mount hear of changes again: of this graph of the catalog.
func (c *Cluster) Thaw(mount, graph string) error {
	c.mounts[mount+".vol"] = graph
	return c.publish()
}

// KillClient ends the client of a mount.
func (c *Cluster) KillClient(mount string) error { return c.clients[mount].run.kill() }

// serveVolfile serves a client's volfile in its network, as the node's mount holder does.
func (c *Cluster) serveVolfile(ctx context.Context, network, volfile, name string) error {
	run, err := c.spawn(setup{Network: network, Hosts: c.hostsFile(), Shared: filepath.Dir(volfile), Command: []string{
		filepath.Join(c.Program, "atoll-brick"), "volfiles", "--listen=127.0.0.1:" + clientPort, "--health=127.0.0.1:24012", "--volfile=client=" + volfile,
	}}, c.logFile("client", name+".volfiles"))
	if err != nil {
		return err
	}
	c.undo = append(c.undo, run.kill)
	for {
		err := netns.In(network, func() error { return get("127.0.0.1", 24012, "/healthz") })
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the client's volfile is not served: %w\n%s", err, c.Log("client", name+".volfiles"))
		case <-run.done:
			return errors.New("the volfile's server ended:\n" + c.Log("client", name+".volfiles"))
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
