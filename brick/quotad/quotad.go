// Package quotad holds volumes to their sizes on the hosts of an External cluster, where
// no brick pod does. It finds the bricks of its host in glusterd's own files, and derives
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

// Config is the file that an administrator writes.
type Config struct {
	// Glusterd is the folder of glusterd's own files; default DefaultGlusterd.
	Glusterd string `yaml:"glusterd"`
	// Volumes are those that pools use; none named are all.
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

// leastEvery keeps a typing error from keeping a host busy.
const leastEvery = time.Second

// ReadConfig reads a file strictly: a name that is not known is an error.
func ReadConfig(path string) (Config, error) {
	c := Config{Glusterd: DefaultGlusterd, Every: agent.Every, Listen: DefaultListen}
	f, err := os.Open(path)
	if err != nil {
		return c, fmt.Errorf("reading the configuration: %w", err)
	}
	defer f.Close()
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("reading the configuration %s: %w", path, err)
	}
	if c.Every < leastEvery {
		return c, fmt.Errorf("reading the configuration %s: every is %s, the least is %s", path, c.Every, leastEvery)
	}
	return c, nil
}

// Daemon is the process.
type Daemon struct {
	Config
	Log logr.Logger

	agents   map[brick]*agent.Agent
	registry *prometheus.Registry
	told     string // what was wrong when it was last told
}

// Handler answers /healthz and /metrics. Call it before Run.
func (d *Daemon) Handler() http.Handler {
	d.registry = prometheus.NewRegistry()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{}))
	return mux
}

// Run holds volumes to their sizes until the context ends.
func (d *Daemon) Run(ctx context.Context) error {
	d.agents = map[brick]*agent.Agent{}
	defer func() {
		for b := range d.agents {
			d.drop(b)
		}
	}()
	for {
		d.round(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(d.Every):
		}
	}
}

// round looks at all bricks of this host. One brick's trouble is not another's.
func (d *Daemon) round(ctx context.Context) {
	found, err := localBricks(d.Glusterd, d.Volumes)
	d.tell(err)
	here := map[brick]bool{}
	for _, b := range found {
		here[b] = true
		a, err := d.agent(b)
		if err != nil {
			d.Log.Error(err, "opening a brick", "volume", b.volume, "brick", b.directory)
			continue
		}
		if err := a.Derive(ctx); err != nil && ctx.Err() == nil {
			d.Log.Error(err, "holding volumes to their sizes", "volume", b.volume, "brick", b.directory)
		}
	}
	for b := range d.agents {
		if !here[b] && err == nil {
			d.drop(b)
		}
	}
}

// tell logs what is wrong with glusterd's files, once.
func (d *Daemon) tell(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != d.told && err != nil {
		d.Log.Error(err, "looking for bricks")
	}
	d.told = text
}

// agent opens a brick, or gives the one that is open.
func (d *Daemon) agent(b brick) (*agent.Agent, error) {
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
			return nil, fmt.Errorf("counting the brick: %w", err)
		}
	}
	d.agents[b] = a
	d.Log.Info("holding volumes to their sizes", "volume", b.volume, "brick", b.directory)
	return a, nil
}

func (d *Daemon) drop(b brick) {
	a := d.agents[b]
	if d.registry != nil {
		d.registry.Unregister(a.Collector())
	}
	a.Close()
	delete(d.agents, b)
	d.Log.Info("a brick is here no more", "volume", b.volume, "brick", b.directory)
}
