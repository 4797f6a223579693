package mounts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Generation is one of the mount servers of a node. When a newer one has started, which another image
// may run, it serves no new mounts, and ends when nothing is mounted from its clients any more.
type Generation struct {
	// Name is a path component that no other generation of the node has, such as its pod's UID.
	Name string
	// Sockets is the directory with the sockets of all generations, Current a link to that of the
	// newest, and Mounts the directory with a directory of mounts for each.
	Sockets, Current, Mounts string
	Log                      logr.Logger
}

// In Sockets, after a generation's name: its socket, and a file that exists once it is to end.
const (
	socketSuffix = ".sock"
	endsSuffix   = ".ends"
)

// Socket is the path of its socket.
func (g *Generation) Socket() string { return filepath.Join(g.Sockets, g.Name+socketSuffix) }

func (g *Generation) ends() string { return filepath.Join(g.Sockets, g.Name+endsSuffix) }

// Dir is the directory for its mounts.
func (g *Generation) Dir() string { return filepath.Join(g.Mounts, g.Name) }

// Prepare creates the directories, and calls ended for the directory of each generation whose server
// does not run any more. Then that is removed, with the mounts in it.
func (g *Generation) Prepare(ctx context.Context, ended func(dir string) error) error {
	if err := errors.Join(os.MkdirAll(g.Sockets, 0o700), os.MkdirAll(g.Dir(), 0o700)); err != nil {
		return fmt.Errorf("create the directories of the mount server: %w", err)
	}
	if err := os.Remove(g.ends()); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an earlier process
		return fmt.Errorf("start the mount server: %w", err)
	}
	all, err := os.ReadDir(g.Mounts)
	if err != nil {
		return fmt.Errorf("list the mount servers of the node: %w", err)
	}
	for _, e := range all {
		other := &Generation{Name: e.Name(), Sockets: g.Sockets, Mounts: g.Mounts}
		if !e.IsDir() || e.Name() == g.Name || listens(ctx, other.Socket()) {
			continue
		}
		g.Log.Info("removing what an earlier mount server has left", "generation", other.Name)
		if err := errors.Join(ended(other.Dir()), other.remove()); err != nil {
			g.Log.Error(err, "removing what an earlier mount server has left", "generation", other.Name)
		}
	}
	return nil
}

// listens reports whether a process listens on a socket. One that does not answer may.
func listens(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, aliveLimit)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist)
	}
	c.Close()
	return true
}

// lookEvery is how often a generation checks that new mounts have a server.
const lookEvery = time.Second

// Lead makes this generation the newest once its server listens, and again if the newest has gone,
// until ctx ends. Then it leaves new mounts to another generation, if there is one.
func (g *Generation) Lead(ctx context.Context) error {
	for !listens(ctx, g.Socket()) {
		if !wait(ctx, 20*time.Millisecond) {
			return nil
		}
	}
	if err := g.announce(); err != nil {
		return err
	}
	for wait(ctx, lookEvery) {
		if listens(ctx, g.Current) || ctx.Err() != nil {
			continue
		}
		if err := g.announce(); err != nil {
			g.Log.Error(err, "taking over new mounts; trying again")
		}
	}
	return g.step(context.WithoutCancel(ctx))
}

// wait waits; false if ctx has ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// step notes that this generation is to end, and removes the link if it leads here and another one runs
// that stays: that one sees it and takes over.
func (g *Generation) step(ctx context.Context) error {
	if err := os.WriteFile(g.ends(), nil, 0o600); err != nil {
		return fmt.Errorf("note that the mount server is to end: %w", err)
	}
	sockets, err := filepath.Glob(filepath.Join(g.Sockets, "*"+socketSuffix))
	if err != nil {
		return err
	}
	to, err := os.Readlink(g.Current)
	if err != nil || filepath.Base(to) != filepath.Base(g.Socket()) {
		return nil //nolint:nilerr // without a link there is nothing to give away
	}
	for _, socket := range sockets {
		other := &Generation{Name: strings.TrimSuffix(filepath.Base(socket), socketSuffix), Sockets: g.Sockets}
		if _, err := os.Lstat(other.ends()); err == nil || other.Name == g.Name {
			continue
		}
		if listens(ctx, socket) {
			return os.Remove(g.Current)
		}
	}
	return nil
}

// announce makes this generation the newest.
func (g *Generation) announce() error {
	target, err := filepath.Rel(filepath.Dir(g.Current), g.Socket())
	if err != nil {
		return err
	}
	link := g.Current + "." + g.Name
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("announce the mount server: %w", err)
	}
	if err := os.Symlink(target, link); err != nil {
		return fmt.Errorf("announce the mount server: %w", err)
	}
	if err := os.Rename(link, g.Current); err != nil {
		return fmt.Errorf("announce the mount server: %w", err)
	}
	g.Log.Info("serving new mounts", "generation", g.Name)
	return nil
}

// Remove removes the socket and the directory, once the server has ended.
func (g *Generation) Remove() {
	if err := g.remove(); err != nil {
		g.Log.Error(err, "removing the directory of the mount server")
	}
}

// remove unmounts what is mounted below the directory, and removes what a server creates there. It
// removes one name after the other: what is mounted somewhere belongs to users.
func (g *Generation) remove() error {
	dir := g.Dir()
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	for i := len(all) - 1; i >= 0; i-- { // later mounts are above earlier ones
		_ = unix.Unmount(all[i].Mountpoint, unix.MNT_DETACH) // it may be gone with another
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			for _, name := range clientFiles {
				_ = os.Remove(filepath.Join(dir, e.Name(), name))
			}
		}
		if e.IsDir() || strings.Contains(e.Name(), logSuffix) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	err = os.Remove(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	for _, file := range []string{g.Socket(), g.ends()} {
		if gone := os.Remove(file); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// settle is how long a client must not have been asked for before a server that ends counts it as
// unused: what a caller mounts from it, it mounts within that time.
const settle = 10 * time.Second

// WaitUnused waits until nothing is mounted from any client and no block volume is attached, and tells
// how many clients are still used when it begins, and every ten minutes.
func (c *Clients) WaitUnused(ctx context.Context) {
	var told time.Time
	for {
		used := c.usedPools()
		if len(used) == 0 {
			return
		}
		if time.Since(told) > 10*time.Minute {
			told = time.Now()
			c.log.Info("ending when the volumes that are mounted through this process are unmounted", "pools", used)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// usedPools lists the pools whose clients are used.
func (c *Clients) usedPools() (used []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.clients {
		if !cl.mu.TryLock() {
			used = append(used, cl.pool) // it is being started
			continue
		}
		if cl.running.Load() && (time.Since(cl.used) < settle || cl.inUse() || c.holdsVolumes(cl)) {
			used = append(used, cl.pool)
		}
		cl.mu.Unlock()
	}
	return used
}
