package podrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/netns"
)

// clientPort is where a client gets its volfile, on loopback in its network namespace.
const clientPort = "24011"

// clientGraph returns a graph of the pool's catalog entry, "" if it has none.
func (c *Cluster) clientGraph(graph string) string {
	for _, o := range c.objects {
		if m, is := o.(*corev1.ConfigMap); is && m.Labels[catalog.Label] != "" {
			return m.Data[graph]
		}
	}
	return ""
}

// Mount mounts the pool with a graph of its catalog entry (catalog.KeyFiles or
// catalog.KeyBlocks) as a node would, in a new network namespace, and returns the mount point.
// The client follows what Apply changes.
func (c *Cluster) Mount(ctx context.Context, graph string) (string, error) {
	text := c.clientGraph(graph)
	if text == "" {
		return "", fmt.Errorf("the catalog entry has no %s", graph)
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
		Command: []string{
			"glusterfs", "-N", "-s", "127.0.0.1", "--volfile-server-port=" + clientPort, "--volfile-id",
			"client", "-l", c.logFile("client", name), dir,
		},
	}, c.logFile("client", name+".out"))
	if err != nil {
		return "", err
	}
	c.mounts[volfile] = graph
	c.clients[dir] = client{network, run}
	c.undo = append(c.undo, run.kill)
	for {
		if bricks.IsMounted(dir) {
			return dir, nil
		}
		select {
		case <-run.done:
			return "", errors.New("the client ended:\n" + c.Log("client", name))
		case <-ctx.Done():
			return "", fmt.Errorf("mount the pool: %w\n%s", ctx.Err(), c.Log("client", name))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// client is the process behind a mount.
type client struct {
	network string
	run     *process
}

// ConnectClient connects the client of a mount to the network, or disconnects it.
func (c *Cluster) ConnectClient(mount string, connected bool) error {
	return c.network.Connect(c.clients[mount].network, connected)
}

// StopUpdates keeps later changes of the pool from the client of a mount, as on a node that does
// not reach the API server.
func (c *Cluster) StopUpdates(mount string) { delete(c.mounts, mount+".vol") }

// ResumeUpdates sends the client of a mount this graph of the catalog, and all later changes.
func (c *Cluster) ResumeUpdates(mount, graph string) error {
	c.mounts[mount+".vol"] = graph
	return c.publish()
}

// KillClient kills the client of a mount.
func (c *Cluster) KillClient(mount string) error { return c.clients[mount].run.kill() }

// serveVolfile serves a client's volfile in its network namespace, as the node's mounter does.
func (c *Cluster) serveVolfile(ctx context.Context, network, volfile, name string) error {
	run, err := c.spawn(setup{Network: network, Hosts: c.hostsFile(), Shared: filepath.Dir(volfile), Command: []string{
		filepath.Join(c.Program, "atoll-brick"), "volfiles", "--listen=127.0.0.1:" + clientPort,
		"--health=127.0.0.1:24012", "--volfile=client=" + volfile,
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
			return fmt.Errorf("serve the client's volfile: %w\n%s", err, c.Log("client", name+".volfiles"))
		case <-run.done:
			return errors.New("the volfile server ended:\n" + c.Log("client", name+".volfiles"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
