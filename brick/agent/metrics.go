package agent

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
)

// collector reads the brick when it is asked.
type collector struct {
	*Agent
	size, free, inodes, backlog, volumes, used, limit, enforced, drift, age *prometheus.Desc
}

// metrics are those of the brick and, where one heals, of its set.
func (s *Server) metrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(s.Collector())
	if s.Healer != nil {
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "atoll_brick_split_brain_entries", ConstLabels: s.labels(),
			Help: "Files and folders that nobody can read: this brick and another hold each other to be wrong.",
		}, func() float64 { return float64(s.Healer.Splits()) }))
	}
	return r
}

func (a *Agent) labels() prometheus.Labels {
	return prometheus.Labels{"namespace": a.Namespace, "pool": a.Pool, "brick": a.Position}
}

// Collector gives the metrics of the brick.
func (a *Agent) Collector() prometheus.Collector {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, more, a.labels())
	}
	return &collector{
		Agent:    a,
		size:     desc("atoll_brick_size_bytes", "Size of the brick's file system."),
		free:     desc("atoll_brick_free_bytes", "What of it is free."),
		inodes:   desc("atoll_brick_free_inodes", "How many files it can still have."),
		backlog:  desc("atoll_brick_heal_backlog_entries", "Files and folders of which this brick has what others must be healed from.", "index"),
		volumes:  desc("atoll_brick_volumes", "Volumes on the brick."),
		used:     desc("atoll_brick_volume_used_bytes", "What a volume has on this brick.", "volume"),
		limit:    desc("atoll_brick_volume_limit_bytes", "What it may have on this brick.", "volume"),
		enforced: desc("atoll_brick_quota_enforced", "1 where the file system holds volumes to their sizes, 0 where sizes are advisory."),
		drift:    desc("atoll_brick_quota_drift_volumes", "Volumes whose limit was not their size when it was last looked at."),
		age:      desc("atoll_brick_quota_age_seconds", "Time since limits were last compared with the records."),
	}
}

// Describe tells the metrics, whatever the brick has to say at the moment.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.size, c.free, c.inodes, c.backlog, c.volumes, c.used, c.limit, c.enforced, c.drift, c.age} {
		out <- d
	}
}

// Collect reads them. What cannot be read is left out.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	var st unix.Statfs_t
	if unix.Statfs(c.Directory, &st) == nil {
		gauge(c.size, float64(st.Blocks)*float64(st.Frsize))
		gauge(c.free, float64(st.Bavail)*float64(st.Frsize))
		gauge(c.inodes, float64(st.Ffree))
	}
	for _, index := range []string{"xattrop", "dirty"} {
		if n, err := countBacklog(c.Directory, index); err == nil {
			gauge(c.backlog, float64(n), index)
		}
	}
	enforced := 0.0
	if c.quota != nil {
		enforced = 1
	}
	gauge(c.enforced, enforced)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.derived.IsZero() {
		return
	}
	gauge(c.volumes, float64(len(c.Agent.volumes)))
	gauge(c.drift, float64(c.Agent.drift))
	gauge(c.age, time.Since(c.derived).Seconds())
	for _, v := range c.Agent.volumes {
		gauge(c.used, float64(v.used), v.name)
		gauge(c.limit, float64(v.limit), v.name)
	}
}

// indices is the folder of a brick that lists what is to be healed.
const indices = ondisk.GlusterDir + "/indices"

// countBacklog counts an index of what is to be healed: its entries, but for the one that
// they are all links to (features/index of GlusterFS).
func countBacklog(directory, index string) (int, error) {
	d, err := os.Open(filepath.Join(directory, indices, index))
	if err != nil {
		return 0, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	n := 0
	for _, name := range names {
		if !strings.HasPrefix(name, index+"-") {
			n++
		}
	}
	return n, err
}
