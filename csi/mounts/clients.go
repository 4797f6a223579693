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

	mu      sync.Mutex
	clients map[string]*client // by key
}

// client is one graph of one pool. It is locked while it is started or checked, so that
// other pools do not wait for it.
type client struct {
	mu      sync.Mutex
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has ended
	target  string
	pool    string
	used    time.Time    // last call of Root
	reaped  bool         // it was removed from Clients
	running atomic.Bool  // readable without the lock
	reloads atomic.Int32 // how often it was made to load its graph again
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
// was just verified to respond.
func (c *Clients) Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error) {
	key := keyOf(p, layout)
	cl := c.locked(key, p.Pool)
	defer cl.mu.Unlock()
	cl.used = time.Now()
	if cl.alive(ctx) {
		return cl.target, nil // UpdateGraphs sends it changes
	}
	c.serveGraph(cl, key, p, layout)
	if err := cl.start(ctx, c, p, layout, key); err != nil {
		c.metrics.failures.WithLabelValues(p.Pool).Inc()
		return "", fmt.Errorf("%w: pool %s: %w", ErrUnreachable, p.Pool, err)
	}
	c.metrics.starts.WithLabelValues(p.Pool).Inc()
	return cl.target, nil
}

// locked returns the client of a key, locked.
func (c *Clients) locked(key, pool string) *client {
	for {
		c.mu.Lock()
		cl := c.clients[key]
		if cl == nil {
			cl = &client{target: filepath.Join(c.dir, key, "root"), pool: pool}
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

// alive reports whether the root responds within the limit.
func (cl *client) alive(ctx context.Context) bool {
	if cl.cmd == nil {
		return false
	}
	select {
	case <-cl.done:
		return false
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, aliveLimit)
	defer cancel()
	return gluster.WaitMounted(ctx, cl.target) == nil
}

// start starts a new process, in place of an earlier one if there was one.
func (cl *client) start(ctx context.Context, c *Clients, p catalog.Pool, layout schema.Layout, key string) error {
	cl.stop()
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
	logFile := filepath.Join(c.dir, key+".log")
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
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	mounted := make(chan error, 1)
	go func() { mounted <- gluster.WaitMounted(ctx, cl.target) }()
	select {
	case err = <-mounted:
	case <-cl.done:
		err = errors.New("its client ended")
	}
	if err != nil {
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
