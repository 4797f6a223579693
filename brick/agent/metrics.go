package agent

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// metric is one of the brick's gauges.
type metric struct {
	name, help string
	labels     []string
}

// gauges are all gauges of the brick.
var gauges []metric

// gauge adds a gauge of the brick.
func gauge(name, help string, labels ...string) metric {
	m := metric{name, help, labels}
	gauges = append(gauges, m)
	return m
}

// The brick's gauges, which Collect sets. Names and labels are listed in docs/bricks.md. What needs the
// set's other bricks is in metrics, as a daemon on a host of an External cluster has no healer.
var (
	sizeBytes   = gauge("atoll_brick_size_bytes", "Size of the brick's file system.")
	freeBytes   = gauge("atoll_brick_free_bytes", "Free space of the brick's file system.")
	freeInodes  = gauge("atoll_brick_free_inodes", "Free inodes of the brick's file system.")
	healBacklog = gauge("atoll_brick_heal_backlog_entries",
		"Files and directories that this brick has and other bricks must be healed from.", "index")
	volumeCount   = gauge("atoll_brick_volumes", "Volumes on the brick.")
	volumeUsed    = gauge("atoll_brick_volume_used_bytes", "Space that a volume uses on this brick.", "volume")
	volumeLimit   = gauge("atoll_brick_volume_limit_bytes", "Space that a volume may use on this brick.", "volume")
	quotaEnforced = gauge("atoll_brick_quota_enforced",
		"1 if the file system enforces the sizes of volumes, 0 if sizes are advisory.")
	quotaDrift = gauge("atoll_brick_quota_drift_volumes",
		"Volumes whose limit differed from their size at the last check.")
	quotaAge = gauge("atoll_brick_quota_age_seconds", "Time since limits were last compared with the records.")
)

// collector reads the brick at each scrape.
type collector struct {
	*Agent
	descriptions map[string]*prometheus.Desc // by name
}

// metrics are the brick's and, if it has a healer, its set's.
func (s *Server) metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(s.Collector(), s.crashCounter())
	if s.Healer != nil {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "atoll_brick_split_brain_entries", ConstLabels: s.labels(),
			Help: "Files and directories in split-brain: this brick and another blame each other, so they cannot be read.",
		}, func() float64 { return float64(s.Healer.Splits()) }))
	}
	return r
}

func (a *Agent) labels() prometheus.Labels {
	return prometheus.Labels{"namespace": a.Namespace, "pool": a.Pool, "brick": a.Position}
}

// Collector returns the metrics of the brick.
func (a *Agent) Collector() prometheus.Collector {
	c := &collector{Agent: a, descriptions: map[string]*prometheus.Desc{}}
	for _, m := range gauges {
		c.descriptions[m.name] = prometheus.NewDesc(m.name, m.help, m.labels, a.labels())
	}
	return c
}

// Describe lists all metrics, also those without a value at present.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descriptions {
		out <- d
	}
}

// scrapeLimit is how long a scrape waits for a count: half as long as Prometheus by default.
const scrapeLimit = 5 * time.Second

// Collect reads the values. Those that cannot be read are left out.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	set := func(m metric, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(c.descriptions[m.name], prometheus.GaugeValue, v, labels...)
	}
	var st unix.Statfs_t
	if unix.Statfs(c.Directory, &st) == nil {
		set(sizeBytes, float64(st.Blocks)*float64(st.Frsize))
		set(freeBytes, float64(st.Bavail)*float64(st.Frsize))
		set(freeInodes, float64(st.Ffree))
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeLimit)
	defer cancel()
	for index, count := range map[string]func(context.Context) (int, error){
		"xattrop": c.backlog, "dirty": c.writing,
	} {
		if n, err := count(ctx); err == nil || n > 0 { // n is the former number while it is counted
			set(healBacklog, float64(n), index)
		}
	}
	enforced := 0.0
	if c.quota != nil {
		enforced = 1
	}
	set(quotaEnforced, enforced)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.derived.IsZero() {
		return
	}
	set(volumeCount, float64(len(c.volumes)))
	set(quotaDrift, float64(c.drift))
	set(quotaAge, time.Since(c.derived).Seconds())
	for _, v := range c.volumes {
		set(volumeUsed, float64(v.used), v.name)
		set(volumeLimit, float64(v.limit), v.name)
	}
}
