package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/cluster"
	"github.com/atoll-storage/atoll/tests/internal/report"
)

// outage takes away more bricks of a pool than it can lose.
type outage struct {
	name, pool string
	what       string // for the table
	do         func(*workload)
}

// outagePools are pools on paths. The writer is on node 1, the only brick of alone on node 3.
var outagePools = map[string]string{
	"alone": `
  type: Replica1
  volumes: [Subdirectory, Block]
  bricks:
  - {node: n3, path: /srv/alone}`,
	"trio":  "\n  type: Replica3" + onThreeNodes("trio"),
	"lean":  "\n  type: Arbiter" + onThreeNodes("lean"),
	"parts": "\n  type: Disperse\n  disperse: {data: 2, redundancy: 1}" + onThreeNodes("parts"),
	"grows": "\n  type: Replica3" + onThreeNodes("grows"),
	"far": `
  type: External
  external: {hosts: [` + cluster.GlusterAddress + `], volume: vol1}`,
}

func onThreeNodes(pool string) string {
	return strings.ReplaceAll(`
  bricks:
  - {node: n1, path: /srv/POOL}
  - {node: n2, path: /srv/POOL}
  - {node: n3, path: /srv/POOL}`, "POOL", pool)
}

var outages = []outage{
	{"only-brick-deleted", "alone", "the only brick of a pool: pod deleted", func(w *workload) {
		w.kubectl("delete", "pod", "-n", "atoll-system", "atoll-alone-0-0")
	}},
	{"only-brick-cut", "alone", "the only brick of a pool: node cut off for a minute", func(w *workload) {
		w.cut(3, time.Minute)
	}},
	{"restarted-meanwhile", "alone", "the only brick of a pool: node cut off; node plugins, controller and reconciler " +
		"restarted meanwhile", restartMeanwhile},
	{"asked-meanwhile", "alone", "the only brick of a pool: node cut off; a claim with its pod, more space, a " +
		"snapshot and a deletion asked for meanwhile", askMeanwhile},
	{"only-brick-cut-long", "alone", "the only brick of a pool: node cut off for ten minutes", func(w *workload) {
		w.cut(3, 10*time.Minute)
	}},
	{"client-cut-briefly", "alone", "the writer's node, which has no brick, cut off for 10 s", func(w *workload) {
		w.cut(1, 10*time.Second)
	}},
	{"client-cut", "alone", "the writer's node, which has no brick, cut off for a minute", func(w *workload) {
		w.cut(1, time.Minute)
	}},
	{"names-away", "trio", "all three bricks killed, the cluster's name service away for a minute", func(w *workload) {
		w.order("stop", "coredns")
		killAll(w)
		time.Sleep(time.Minute)
		w.order("start", "coredns")
	}},
	{"external-restarted", "far", "External: glusterd and its brick killed for half a minute, brick on another port", func(w *workload) {
		w.order("stop", "gluster")
		time.Sleep(30 * time.Second)
		w.order("start", "gluster")
	}},
	{"set-added-meanwhile", "grows", "a set added while all bricks are killed", growMeanwhile},
	{"graphs-change", "trio", "an option of the pool changed 40 times", changeGraphs},
	{"all-bricks-killed", "trio", "all three bricks killed (SIGKILL) at once", killAll},
	{"arbiter-killed", "lean", "all three bricks of an Arbiter pool killed at once", killAll},
	{"disperse-killed", "parts", "all three bricks of a Disperse pool killed at once", killAll},
	{"all-bricks-crash", "trio", "all three bricks killed (SIGKILL) five times, each time when the writer goes on", crashes},
	{"api-server-away", "trio", "all three bricks killed, the API server away for a minute", func(w *workload) {
		w.order("stop", "kube-apiserver")
		killAll(w)
		time.Sleep(time.Minute)
		w.order("start", "kube-apiserver")
	}},
}

// killAll kills all bricks of a workload's pool.
func killAll(w *workload) { w.killBricks(w.pool, 1, 2, 3) }

// crashes kills all bricks of a pool again and again.
func crashes(w *workload) {
	for range 5 {
		killAll(w)
		w.waitProgress(20)
	}
}

// growMeanwhile adds a set of bricks to a pool while the others are away.
func growMeanwhile(w *workload) {
	added := strings.TrimPrefix(strings.ReplaceAll(onThreeNodes(w.pool), "/srv/", "/srv/more-"), "\n  bricks:")
	w.makeBrickDirs(added)
	w.apply(poolDocument(w.pool, outagePools[w.pool]+added+small))
	killAll(w)
	w.eventually(limit, "the clients have the new set", func() error {
		out := w.kubectl("get", "configmap", "-n", "atoll-system", "atoll-"+w.pool+"-catalog", "-o", "yaml")
		if !strings.Contains(out, "client-5") {
			return errors.New("the catalog has three bricks")
		}
		return nil
	})
}

// changeGraphs changes what clients are told about a pool again and again.
func changeGraphs(w *workload) {
	for i := range 40 {
		spec := fmt.Sprintf("%s\n  options: {network.ping-timeout: %q}", outagePools[w.pool], strconv.Itoa(20+i))
		w.apply(poolDocument(w.pool, spec+small))
		w.waitProgress(10)
	}
}

// programsOfAtoll are the workloads of Atoll that may be restarted at any time.
var programsOfAtoll = []string{
	"daemonset/atoll-csi-node", "deployment/atoll-csi-controller", "deployment/atoll-reconciler",
}

func restartMeanwhile(w *workload) {
	w.order("unplug", "n3")
	for _, program := range programsOfAtoll {
		w.kubectl("rollout", "restart", "-n", "atoll-system", program)
	}
	time.Sleep(30 * time.Second)
	w.order("plug", "n3")
	for _, program := range programsOfAtoll {
		w.kubectl("rollout", "status", "-n", "atoll-system", program, "--timeout=3m")
	}
}

func askMeanwhile(w *workload) {
	w.apply(claim("doomed", "atoll.alone", "10Mi", "ReadWriteMany") +
		claim("kept", "atoll.alone.block", "320Mi", "ReadWriteOnce"))
	doomed, kept := w.waitBound("doomed"), w.waitBound("kept")
	w.order("unplug", "n3")
	w.kubectl("delete", "pvc", "doomed")
	w.apply(snapshot("meanwhile", "kept"))
	w.apply(claim("meanwhile", "atoll.alone", "10Mi", "ReadWriteMany") +
		pod("meanwhile", "meanwhile", podOptions{node: "n2"}))
	w.kubectl("patch", "pvc", w.name, "-p", `{"spec": {"resources": {"requests": {"storage": "96Mi"}}}}`)
	time.Sleep(30 * time.Second)
	w.order("plug", "n3")
	w.waitRunning("meanwhile")
	w.sh("meanwhile", "echo text >/data/file && test \"$(cat /data/file)\" = text")
	w.waitField("{.status.capacity.storage}", "96Mi", "pvc", w.name)
	w.waitField("{.status.readyToUse}", "true", "volumesnapshot", "meanwhile")
	w.waitDeleted("pv", doomed)
	w.kubectl("delete", "volumesnapshot", "meanwhile")
	w.kubectl("delete", "pvc", "kept")
	w.waitDeleted("pv", kept)
	w.finish("meanwhile", "meanwhile")
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
	spec, healthy := outagePools[o.pool]+small, func() { e.waitHealthy(o.pool) }
	if o.pool == "far" { // its glusterd heals it
		spec, healthy = outagePools[o.pool], func() { e.waitReady(o.pool) }
	}
	e.makeBrickDirs(spec)
	e.apply(poolDocument(o.pool, spec))
	e.waitReady(o.pool)
	healthy()
	w := e.startWorkload("outage-"+o.name, "atoll."+o.pool, 1, 2)
	w.pool = o.pool
	const identity = `{.metadata.uid} {.status.containerStatuses[*].restartCount}`
	before := e.field(identity, "pod", w.name)
	o.do(w)
	w.waitProgress(50)
	healthy()
	w.waitProgress(50)
	if now := e.field(identity, "pod", w.name); now != before {
		e.Errorf("the writer's pod and its restarts are %s, before %s", now, before)
	}
	r := w.check()
	e.Logf("%s: longest stall %s, errors: %s, %d writes, %d lost", o.what, r.stall(), r.errorsText(), r.Writes,
		r.Missing)
	return r
}
