// Package mounts keeps the glusterfs clients of a process: one for each pool and
// layout's graph, started when it is first needed, looked at whenever it is used,
// and replaced when it is dead.
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

// Times of a client.
const (
	startLimit = 20 * time.Second // until the root answers for the first time
	aliveLimit = 5 * time.Second  // until it answers later
	endLimit   = 5 * time.Second  // until a client that was told to end is killed
)

// ErrUnreachable says that a pool cannot be mounted now.
var ErrUnreachable = errors.New("the pool cannot be reached")

// Clients are the mounts below one folder.
type Clients struct {
	dir      string
	log      logr.Logger
	uncached bool
	metrics  *metrics
	specs    *volfileserver.Server // of the graphs of native pools
	waiting  sync.Map              // by key: the bricks that a changed graph waits for
	port     int                   // where it serves them, on this host only
	stop     func()                // ends it

	mu      sync.Mutex
	clients map[string]*client // by key
}

// client is one graph of one pool. Its lock is held while it is started or
// looked at, so that nobody waits for another pool.
type client struct {
	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{} // closed when the process has ended
	target string
	pool   string
	used   time.Time    // when it was last asked for
	gone   bool         // it was reaped: another one is in its place
	runs   atomic.Bool  // for those who do not hold the lock
	round  atomic.Int32 // how often it has begun anew with a graph
}

// New keeps clients below a folder, which is for them alone. Mounts that a former
// process left there are detached.
func New(dir string, log logr.Logger) (*Clients, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of mounts: %w", err)
	}
	c := &Clients{dir: dir, log: log, clients: map[string]*client{}, specs: volfileserver.New(log)}
	c.metrics = newMetrics(c.running)
	return c, c.serveSpecs()
}

// NewUncached is New for a controller: its clients remember no names, so that what
// another controller has just done is seen at once. With the default of a second,
// a volume that another one has deleted would be found, and be given out again.
func NewUncached(dir string, log logr.Logger) (*Clients, error) {
	c, err := New(dir, log)
	if err == nil {
		c.uncached = true
	}
	return c, err
}

// uncachedArguments turn off what the kernel and the graph remember of names. What
// the kernel knows of attributes does no harm: records are not among them.
var uncachedArguments = []string{"--entry-timeout=0", "--xlator-option=*md-cache.md-cache-timeout=0"}

// Root gives the folder where a pool is mounted with the graph of a layout. It
// has answered just now.
func (c *Clients) Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error) {
	key := keyOf(p, layout)
	one := c.locked(key, p.Pool)
	defer one.mu.Unlock()
	one.used = time.Now()
	if one.alive(ctx) {
		return one.target, nil // Follow tells it of changes
	}
	c.publish(one, key, p, layout)
	if err := one.start(ctx, c, p, layout, key); err != nil {
		c.metrics.failures.WithLabelValues(p.Pool).Inc()
		return "", fmt.Errorf("%w: pool %s: %w", ErrUnreachable, p.Pool, err)
	}
	c.metrics.starts.WithLabelValues(p.Pool).Inc()
	return one.target, nil
}

// locked gives the client of a key, with its lock held.
func (c *Clients) locked(key, pool string) *client {
	for {
		c.mu.Lock()
		one := c.clients[key]
		if one == nil {
			one = &client{target: filepath.Join(c.dir, key, "root"), pool: pool}
			c.clients[key] = one
		}
		c.mu.Unlock()
		one.mu.Lock()
		if !one.gone {
			return one
		}
		one.mu.Unlock()
	}
}

// keyOf names a client. The graph of a native pool may change under it; another volume
// is another client, and so is an External pool that is reached otherwise.
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

// alive asks the root for an answer within the limit.
func (o *client) alive(ctx context.Context) bool {
	if o.cmd == nil {
		return false
	}
	select {
	case <-o.done:
		return false
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, aliveLimit)
	defer cancel()
	return gluster.WaitMounted(ctx, o.target) == nil
}

// start replaces whatever was there by a new client.
func (o *client) start(ctx context.Context, c *Clients, p catalog.Pool, layout schema.Layout, key string) error {
	o.stop()
	if p.Type == schema.External {
		if err := probe(ctx, c.log, p); err != nil {
			return err
		}
	}
	args, err := o.arguments(c, p, layout, key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.target, 0o700); err != nil {
		return err
	}
	logFile := filepath.Join(c.dir, key+".log")
	if c.uncached {
		args = append(slices.Clone(uncachedArguments), args...)
	}
	cmd := exec.Command("glusterfs", append([]string{"-l", logFile, "--process-name", "fuse"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	done := make(chan struct{})
	if err := o.spawn(cmd, p, done); err != nil {
		return fmt.Errorf("starting glusterfs: %w", err)
	}
	o.cmd, o.done = cmd, done
	o.runs.Store(true)
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		o.runs.Store(false)
		close(done)
	}()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- gluster.WaitMounted(ctx, o.target) }()
	select {
	case err = <-answered:
	case <-o.done:
		err = errors.New("its client ended")
	}
	if err != nil {
		o.stop()
		return fmt.Errorf("%w; its log is %s", err, logFile)
	}
	c.log.Info("mounted a pool", "pool", p.Pool, "layout", layout, "target", o.target)
	return nil
}

func server(p catalog.Pool) gluster.Server {
	x := p.External
	return gluster.Server{Hosts: x.Hosts, Port: x.Port, Volume: x.Volume, Options: x.Options, Aliases: aliasesOf(x)}
}

// probe asks an External volume before it is mounted: a client that is started on
// one that cannot serve says nothing, or says it after minutes.
func probe(ctx context.Context, log logr.Logger, p catalog.Pool) error {
	r, err := server(p).Probe(ctx)
	if err == nil && len(r.Problems) > 0 {
		log.Info("an External volume is degraded", "pool", p.Pool, "troubles", r.Problems)
	}
	return err
}

func (o *client) arguments(c *Clients, p catalog.Pool, layout schema.Layout, key string) ([]string, error) {
	if p.Type == schema.External {
		return server(p).Args(o.target)
	}
	if graph(p, layout) == "" {
		return nil, fmt.Errorf("its catalog entry has no graph for %s", layout)
	}
	return []string{"--no-daemon", "--volfile-server=127.0.0.1", "--volfile-server-port=" + strconv.Itoa(c.port), "--volfile-id=" + key, o.target}, nil
}

// stop unmounts, ends the client and waits for it.
func (o *client) stop() {
	for _, at := range []string{o.target, filepath.Dir(o.target)} { // see spawn
		for unix.Unmount(at, unix.MNT_DETACH) == nil {
			continue // also what a former process left
		}
	}
	if o.cmd == nil {
		return
	}
	_ = o.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-o.done:
	case <-time.After(endLimit):
		_ = o.cmd.Process.Kill()
		<-o.done
	}
	o.cmd = nil
}

// Close ends all clients.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.clients {
		o.mu.Lock()
		o.stop()
		o.mu.Unlock()
	}
	c.clients = map[string]*client{}
	c.stop()
}
