package bricks

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/tests/internal/await"
)

// rootInode is the inode of the root of every GlusterFS mount.
const rootInode = 1

// IsMounted reports whether a GlusterFS client answers at a directory.
func IsMounted(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && st.Ino == rootInode
}

// Mount mounts a client graph and waits until its root answers.
func (c *Cluster) Mount(name string, build func(volfile.Pool) (*volfile.Xlator, error)) string {
	c.t.Helper()
	dir := c.startClient(name, build)
	c.Eventually(name+" is mounted", func() bool { return IsMounted(dir) })
	return dir
}

// startClient starts a client for a directory of its own.
func (c *Cluster) startClient(name string, build func(volfile.Pool) (*volfile.Xlator, error)) (dir string) {
	c.t.Helper()
	dir = filepath.Join(c.dir, "mount-"+name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	vol := c.write(name, func() (*volfile.Xlator, error) { return build(c.Pool) })
	c.clients[dir] = c.Run("glusterfs", "-N", "-f", vol, "-l", c.log(name), dir)
	c.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TryMount starts a client that may end instead of mounting. It returns the client's log, and an error if
// the client has ended.
func (c *Cluster) TryMount(name string, build func(volfile.Pool) (*volfile.Xlator, error)) (string, error) {
	c.t.Helper()
	dir := c.startClient(name, build)
	client, ended := c.clients[dir], make(chan error, 1)
	go func() { ended <- client.Wait() }()
	var err error
	c.Eventually(name+" is mounted, or its client has ended", func() bool {
		select {
		case err = <-ended:
			return true
		default:
			return IsMounted(dir)
		}
	})
	text, _ := os.ReadFile(c.log(name))
	return string(text), err
}

// Unmount unmounts what Mount mounted, and ends its client. A process that another test starts
// has this one's files open until it executes its program, so the mount may be busy for a moment.
func (c *Cluster) Unmount(dir string) {
	c.t.Helper()
	var err error
	await.True(c.t, dir+" is unmounted", func() bool {
		err = unix.Unmount(dir, 0)
		return !errors.Is(err, unix.EBUSY)
	})
	if err != nil {
		c.t.Fatalf("unmount %s: %v", dir, err)
	}
	Stop(c.clients[dir])
}

// Connected counts the bricks to which the client of a mount is connected, as the client
// itself reports below .meta.
func Connected(mount string) int { return connections(mount, "*-client-*") }

// ConnectedTiebreakers is Connected for tiebreakers.
func ConnectedTiebreakers(mount string) int { return connections(mount, "*-ta-*") }

func connections(mount, name string) int {
	clients, _ := filepath.Glob(filepath.Join(mount, ".meta/graphs/active", name, "private"))
	n := 0
	for _, c := range clients {
		if text, err := os.ReadFile(c); err == nil && strings.Contains(string(text), "connected = 1") {
			n++
		}
	}
	return n
}

// UnmountBelow unmounts everything at and below a directory, the latest mount first.
func UnmountBelow(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m.Mountpoint, err))
		}
	}
	return errors.Join(errs...)
}
