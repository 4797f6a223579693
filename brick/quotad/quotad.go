// Package quotad enforces the sizes of volumes on the hosts of an External cluster, which
// have no brick pods. It finds the bricks of its host in glusterd's files, and derives
// limits from the records that the driver writes on volumes.
package quotad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/brick/agent"
)

// Config is the configuration file.
type Config struct {
	// Glusterd is the working directory of glusterd; default DefaultGlusterd.
	Glusterd string `yaml:"glusterd"`
	// Volumes are the Gluster volumes that pools use; an empty list means all.
	Volumes []string `yaml:"volumes"`
	// Every is how often records are compared with limits; default agent.Every.
	Every time.Duration `yaml:"every"`
	// Listen is the address of /healthz and /metrics; default DefaultListen.
	Listen string `yaml:"listen"`
}

// Defaults of Config.
const (
	DefaultGlusterd = "/var/lib/glusterd"
	DefaultListen   = "127.0.0.1:24014"
)

// minEvery prevents that a typing error keeps a host busy.
const minEvery = time.Second

// ReadConfig reads a file strictly: an unknown field is an error.
func ReadConfig(path string) (Config, error) {
	c := Config{Glusterd: DefaultGlusterd, Every: agent.Every, Listen: DefaultListen}
	f, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if c.Every < minEvery {
		return c, fmt.Errorf("read configuration %s: every is %s, the minimum is %s", path, c.Every, minEvery)
	}
	return c, nil
}

// Daemon enforces the sizes of volumes on all bricks of its host.
type Daemon struct {
	Config
	Log logr.Logger

	agents    map[brick]*agent.Agent
	registry  *prometheus.Registry
	lastError string // of looking for bricks, as last logged
}

// Handler serves /healthz and /metrics. Call it before Run.
func (d *Daemon) Handler() http.Handler {
	d.registry = prometheus.NewRegistry()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{}))
	return mux
}

// Run enforces the sizes of volumes until the context ends.
func (d *Daemon) Run(ctx context.Context) error {
	d.agents = map[brick]*agent.Agent{}
	defer func() {
		for b := range d.agents {
			d.drop(b)
		}
	}()
	for {
		d.deriveAll(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d.Every):
		}
	}
}

// deriveAll derives the limits on all bricks of this host. An error of one brick does not
// stop the others.
func (d *Daemon) deriveAll(ctx context.Context) {
	found, err := localBricks(d.Glusterd, d.Volumes)
	d.logOnce(err)
	present := map[brick]bool{}
	for _, b := range found {
		present[b] = true
		a, err := d.agentFor(b)
		if err != nil {
			d.Log.Error(err, "opening a brick", "volume", b.volume, "brick", b.directory)
			continue
		}
		if err := a.Derive(ctx); err != nil && ctx.Err() == nil {
			d.Log.Error(err, "enforcing the sizes of volumes", "volume", b.volume, "brick", b.directory)
		}
	}
	for b := range d.agents {
		if !present[b] && err == nil {
			d.drop(b)
		}
	}
}

// logOnce logs an error of reading glusterd's files when it differs from the last one.
func (d *Daemon) logOnce(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != d.lastError && err != nil {
		d.Log.Error(err, "looking for bricks")
	}
	d.lastError = text
}

// agentFor returns the agent of a brick, and starts it if needed.
func (d *Daemon) agentFor(b brick) (*agent.Agent, error) {
	if a := d.agents[b]; a != nil {
		return a, nil
	}
	a, err := agent.New(agent.Brick{
		Pool: b.volume, Position: b.position, Directory: b.directory, Parts: b.parts, Advisory: b.arbiter,
	}, d.Log)
	if err != nil {
		return nil, err
	}
	if d.registry != nil {
		if err := d.registry.Register(a.Collector()); err != nil {
			a.Close()
			return nil, fmt.Errorf("register the brick's metrics: %w", err)
		}
	}
	d.agents[b] = a
	d.Log.Info("found a brick; enforcing the sizes of its volumes", "volume", b.volume, "brick", b.directory)
	return a, nil
}

func (d *Daemon) drop(b brick) {
	a := d.agents[b]
	if d.registry != nil {
		d.registry.Unregister(a.Collector())
	}
	a.Close()
	delete(d.agents, b)
	d.Log.Info("a brick was removed from this host", "volume", b.volume, "brick", b.directory)
}
