// Package mounts runs the GlusterFS clients of a node or a controller. There is one client
// for each pool and graph. It is started when it is first needed, checked whenever it is
// used, and replaced when it is dead. On a node the clients run in the mount server, a
// process of their own, which the node plugin calls over a unix socket.
package mounts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/singleflight"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/gluster/volfileserver"
	"github.com/atoll-storage/atoll/schema"
)

// Time limits of a client.
const (
	startLimit = 20 * time.Second // for the first response of its root
	aliveLimit = 5 * time.Second  // for later responses
	endLimit   = 5 * time.Second  // from SIGTERM to SIGKILL
)

// ErrUnreachable reports that a pool cannot be mounted now.
var ErrUnreachable = errors.New("the pool cannot be reached")

// Clients are the mounts below one directory.
type Clients struct {
	dir           string
	log           logr.Logger
	uncached      bool
	metrics       *metrics
	volfiles      *volfileserver.Server // serves the graphs of native pools
	pendingBricks sync.Map              // by key: the bricks that a changed graph waits for
	port          int                   // of volfiles, on the loopback address
	stop          func()                // stops volfiles

	// HoldsVolumes reports whether block volumes of a pool are attached to this machine, which
	// need its client although nothing is mounted from it. Nil: none ever are.
	HoldsVolumes func(pool string) bool

	opening singleflight.Group // of Root, by key

	mu      sync.Mutex
	clients map[string]*client // by key
}

// client is one graph of one pool. It is locked while it is started, ended, or given a graph.
//
// A client whose process runs is never ended for not answering: when its bricks are back, it
// connects to them and all that is mounted from it goes on.
type client struct {
	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has ended
	target  string
	pool    string
	layout  schema.Layout
	used    time.Time    // last call of Root
	reaped  bool         // it was removed from Clients
	running atomic.Bool  // readable without the lock
	reloads atomic.Int32 // how often it was made to load its graph again
	// graph is the volfile that is served to it, before RenameTop; nil before the first.
	graph atomic.Pointer[string]
	state state
}

// New returns Clients that mount pools below dir, which is for them alone. Mounts that an
// earlier process left there are detached.
func New(dir string, log logr.Logger) (*Clients, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory for mounts: %w", err)
	}
	c := &Clients{dir: dir, log: log, clients: map[string]*client{}, volfiles: volfileserver.New(log)}
	c.metrics = newMetrics(c.countRunning)
	return c, c.serveVolfiles()
}

// NewUncached is New for a controller: its clients do not cache names, so that they see at
// once what another controller has done. With the default of one second, a volume that
// another controller has deleted would be found and handed out again.
func NewUncached(dir string, log logr.Logger) (*Clients, error) {
	c, err := New(dir, log)
	if err == nil {
		c.uncached = true
	}
	return c, err
}

// uncachedArgs turn off the caches of names in the kernel and in the graph. The kernel's
// cache of attributes is harmless: records are not among them.
var uncachedArgs = []string{"--entry-timeout=0", "--xlator-option=*md-cache.md-cache-timeout=0"}

// Root returns the directory where a pool is mounted with the graph of a layout. The mount
// was just verified to respond. ErrUnreachable if it does not, or did not before the context ended:
// the client then goes on to try.
func (c *Clients) Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error) {
	key := keyOf(p, layout)
	// Callers that give up end neither the client nor the wait of others.
	opened := c.opening.DoChan(key, func() (any, error) { return c.open(key, p, layout) })
	select {
	case r := <-opened:
		target, _ := r.Val.(string)
		return target, r.Err
	case <-ctx.Done():
		return "", fmt.Errorf("%w: pool %s: %w%s", ErrUnreachable, p.Pool, ctx.Err(), c.awayText(key))
	}
}

// open starts a client unless it runs, and verifies that it responds.
func (c *Clients) open(key string, p catalog.Pool, layout schema.Layout) (string, error) {
	cl := c.locked(key, p.Pool, layout)
	cl.used = time.Now()
	if cl.running.Load() {
		cl.mu.Unlock() // it may have to be given a graph meanwhile
		if err := cl.responds(aliveLimit); err != nil {
			return "", fmt.Errorf("%w: pool %s: its client runs, but %w%s", ErrUnreachable, p.Pool, err,
				c.awayText(key))
		}
		return cl.target, nil // UpdateGraphs sends it changes
	}
	defer cl.mu.Unlock()
	c.serveGraph(cl, key, p, layout)
	if err := cl.start(c, p, layout, key); err != nil {
		c.metrics.failures.WithLabelValues(p.Pool).Inc()
		return "", fmt.Errorf("%w: pool %s: %w", ErrUnreachable, p.Pool, err)
	}
	c.metrics.starts.WithLabelValues(p.Pool).Inc()
	return cl.target, nil
}

// locked returns the client of a key, locked.
func (c *Clients) locked(key, pool string, layout schema.Layout) *client {
	for {
		c.mu.Lock()
		cl := c.clients[key]
		if cl == nil {
			cl = &client{target: filepath.Join(c.dir, key, "root"), pool: pool, layout: layout}
			c.clients[key] = cl
		}
		c.mu.Unlock()
		cl.mu.Lock()
		if !cl.reaped {
			return cl
		}
		cl.mu.Unlock()
	}
}

// keyOf identifies a client. The graph of a native pool may change under its client; another
// GlusterFS volume needs another client, and so does an External pool with other hosts or
// options.
func keyOf(p catalog.Pool, layout schema.Layout) string {
	h := sha256.New()
	if p.Type == schema.External {
		fmt.Fprintf(h, "%+v", *p.External)
	} else {
		fmt.Fprintf(h, "%s %s %t", p.Namespace, p.VolumeID, layout == schema.Block)
	}
	return p.Pool + "-" + hex.EncodeToString(h.Sum(nil)[:8])
}

func graph(p catalog.Pool, layout schema.Layout) string {
	if layout == schema.Block {
		return p.Blocks
	}
	return p.Files
}

// start starts a process, in place of an earlier one that has ended.
func (cl *client) start(c *Clients, p catalog.Pool, layout schema.Layout, key string) error {
	cl.stop()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	if p.Type == schema.External {
		if err := probe(ctx, c.log, p); err != nil {
			return err
		}
	}
	args, err := cl.arguments(c, p, layout, key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cl.target, 0o700); err != nil {
		return err
	}
	logFile := filepath.Join(c.dir, key+logSuffix)
	if c.uncached {
		args = append(slices.Clone(uncachedArgs), args...)
	}
	cmd := exec.Command("glusterfs", append([]string{"-l", logFile, "--process-name", "fuse"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	done := make(chan struct{})
	if err := cl.spawn(cmd, p, done); err != nil {
		return fmt.Errorf("start glusterfs: %w", err)
	}
	cl.cmd, cl.done = cmd, done
	cl.running.Store(true)
	go func() {
		_ = cmd.Wait() // its log has the reason
		cl.running.Store(false)
		close(done)
	}()
	err = cl.responds(startLimit)
	if err == nil {
		err = cl.state.mounted(cl.target)
	}
	if err != nil { // nobody uses it yet
		cl.stop()
		return fmt.Errorf("%w; its log is %s", err, logFile)
	}
	c.log.Info("mounted a pool", "pool", p.Pool, "layout", layout, "target", cl.target)
	return nil
}

func server(p catalog.Pool) gluster.Server {
	x := p.External
	return gluster.Server{Hosts: x.Hosts, Port: x.Port, Volume: x.Volume, Options: x.Options, Aliases: aliases(x)}
}

// probe checks an External volume before it is mounted: a client of a volume that cannot be
// served reports nothing, or only after minutes.
func probe(ctx context.Context, log logr.Logger, p catalog.Pool) error {
	r, err := server(p).Probe(ctx)
	if err == nil && len(r.Problems) > 0 {
		log.Info("External volume is degraded", "pool", p.Pool, "problems", r.Problems)
	}
	return err
}

func (cl *client) arguments(c *Clients, p catalog.Pool, layout schema.Layout, key string) ([]string, error) {
	if p.Type == schema.External {
		return server(p).Args(cl.target)
	}
	if graph(p, layout) == "" {
		return nil, fmt.Errorf("its catalog entry has no graph for %s", layout)
	}
	return []string{
		"--no-daemon", "--volfile-server=127.0.0.1", "--volfile-server-port=" + strconv.Itoa(c.port),
		"--volfile-id=" + key, cl.target,
	}, nil
}

// stop unmounts, ends the client and waits for it.
func (cl *client) stop() {
	cl.state.unmounted()
	for _, at := range []string{cl.target, filepath.Dir(cl.target)} { // see spawn
		for unix.Unmount(at, unix.MNT_DETACH) == nil {
			continue // also mounts that an earlier process left
		}
	}
	if cl.cmd == nil {
		return
	}
	_ = cl.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-cl.done:
	case <-time.After(endLimit):
		_ = cl.cmd.Process.Kill()
		<-cl.done
	}
	cl.cmd = nil
}

// Close ends all clients.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.clients {
		cl.mu.Lock()
		cl.stop()
		cl.mu.Unlock()
	}
	c.clients = map[string]*client{}
	c.stop()
}
