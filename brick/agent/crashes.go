package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-storage/atoll/brick/supervise"
	"github.com/atoll-storage/atoll/internal/agent"
)

// recentCrashes returns the daemons of the pod that have crashed lately. What cannot be read is logged
// and left out.
func (s *Server) recentCrashes() []agent.Crashes {
	var all []agent.Crashes
	for _, r := range s.records() {
		if r.Crashes > 0 && time.Since(r.Last) < agent.CrashesFor {
			all = append(all, agent.Crashes{Daemon: r.Daemon, Count: r.Crashes, Last: r.Last, Reason: r.Reason})
		}
	}
	return all
}

func (s *Server) records() []supervise.Record {
	if s.Records == "" {
		return nil
	}
	all, err := supervise.Records(s.Records)
	if err != nil {
		s.Log.Error(err, "reading the crashes of the brick's daemons")
	}
	return all
}

// crashCounter counts the crashes of the pod's daemons.
type crashCounter struct {
	*Server
	crashes *prometheus.Desc
}

func (s *Server) crashCounter() *crashCounter {
	return &crashCounter{s, prometheus.NewDesc("atoll_brick_crashes_total",
		"How often a daemon of the brick's pod has crashed and was started again.", []string{"daemon"}, s.labels())}
}

// Describe lists the metric.
func (c *crashCounter) Describe(out chan<- *prometheus.Desc) { out <- c.crashes }

// Collect reads the records, which supervisors write also before the first crash.
func (c *crashCounter) Collect(out chan<- prometheus.Metric) {
	for _, r := range c.records() {
		out <- prometheus.MustNewConstMetric(c.crashes, prometheus.CounterValue, float64(r.Crashes), r.Daemon)
	}
}
