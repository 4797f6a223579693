package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/report"
)

// outage takes away more bricks of a pool than it can lose.
type outage struct {
	name, pool string
	what       string // for the table
	do         func(*workload)
}

// outagePools are pools on paths. The writer is on node 1, the only brick on node 3.
var outagePools = map[string]string{
	"alone": `
  type: Replica1
  bricks:
  - {node: n3, path: /srv/alone}`,
	"trio": `
  type: Replica3
  bricks:
  - {node: n1, path: /srv/trio}
  - {node: n2, path: /srv/trio}
  - {node: n3, path: /srv/trio}`,
}

var outages = []outage{
	{"only-brick-deleted", "alone", "the only brick of a pool: pod deleted", func(w *workload) {
		w.kubectl("delete", "pod", "-n", "atoll-system", "atoll-alone-0-0")
	}},
	{"only-brick-cut", "alone", "the only brick of a pool: node cut off for a minute", func(w *workload) {
		w.cut(3, time.Minute)
	}},
	{"all-bricks-killed", "trio", "all three bricks killed (SIGKILL) at once", func(w *workload) {
		w.killBricks("trio", 1, 2, 3)
	}},
	{"all-bricks-crash", "trio", "all three bricks killed (SIGKILL) five times, each time when the writer goes on", crashes},
}

// crashes kills all bricks of a pool again and again.
func crashes(w *workload) {
	for range 5 {
		w.killBricks("trio", 1, 2, 3)
		w.waitProgress(20)
	}
}

// TestOutage takes pools away under a writer. When they are back, the application goes on in the
// same pod, with nothing lost and nothing left to do. make test has the first row.
func TestOutage(t *testing.T) {
	e := boot(t)
	table := report.Head(1, "Outage", "Longest stall", "Errors of the application", "Writes taken", "Lost",
		"Left to do by a person")
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			if o.name != outages[0].name {
				onlyFull(t)
			}
			r := (&env{T: t, Cluster: e.Cluster}).outage(o)
			table.Row(o.what, fmt.Sprintf("%.1f s", r.stall().Seconds()), r.errorsText(), strconv.Itoa(r.Writes),
				strconv.Itoa(r.Missing), "nothing")
		})
	}
	t.Log("\n" + table.String())
	if *docsDir != "" && !t.Failed() {
		if err := report.Write(filepath.Join(*docsDir, "reliability.md"), "outages", table.String()); err != nil {
			t.Error(err)
		}
	}
}

// outage causes one outage under a writer.
func (e *env) outage(o outage) result {
	e.Helper()
	e.makeBrickDirs(outagePools[o.pool])
	e.apply(poolDocument(o.pool, outagePools[o.pool]+small))
	e.waitReady(o.pool)
	e.waitHealthy(o.pool)
	w := e.startWorkload("outage-"+o.name, "atoll."+o.pool, 1, 2)
	const identity = `{.metadata.uid} {.status.containerStatuses[*].restartCount}`
	before := e.field(identity, "pod", w.name)
	o.do(w)
	w.waitProgress(50)
	e.waitHealthy(o.pool)
	w.waitProgress(50)
	if now := e.field(identity, "pod", w.name); now != before {
		e.Errorf("the writer's pod and its restarts are %s, before %s", now, before)
	}
	r := w.check()
	e.Logf("%s: longest stall %s, errors: %s, %d writes, %d lost", o.what, r.stall(), r.errorsText(), r.Writes,
		r.Missing)
	return r
}
