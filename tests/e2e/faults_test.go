package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/report"
)

// docsDir is set by make e2e and make e2e-k8s.
var docsDir = flag.String("report", "", "directory with the pages of docs into which tables are written")

// fault is a failure under a writer. The writer is on node 1, the reader on node 2, and the
// failure on node 3 unless the fault says otherwise.
type fault struct {
	name string
	what string // for the table
	do   func(*workload)
}

const faultPool = "faults"

var faults = []fault{
	{"brick-killed", "glusterfsd of a brick killed (SIGKILL)", func(w *workload) { w.killBricks(faultPool, 3) }},
	{"brick-deleted", "brick pod deleted", func(w *workload) {
		w.kubectl("delete", "pod", "-n", "atoll-system", "atoll-"+faultPool+"-2-0")
	}},
	{"node-cut", "a brick's node cut off for a minute", func(w *workload) { w.cut(3, time.Minute) }},
	{"writer-cut", "the writer's own node cut off for half a minute", func(w *workload) { w.cut(1, 30*time.Second) }},
	{"node-rebooted", "a brick's node loses power and boots", func(w *workload) { w.reboot(3) }},
	{"writer-rebooted", "the writer's own node loses power and boots", func(w *workload) { w.reboot(1) }},
	{"plugin-restarted", "node plugins restarted", func(w *workload) {
		w.kubectl("rollout", "restart", "-n", "atoll-system", "daemonset/atoll-csi-node")
		w.kubectl("rollout", "status", "-n", "atoll-system", "daemonset/atoll-csi-node", "--timeout=2m")
	}},
	{"plugin-upgraded", "node plugins, controller and reconciler upgraded to another image", upgrade},
	{
		"controller-killed", "CSI controller killed (SIGKILL) six times while 20 claims are made and deleted",
		killController,
	},
	{"reconciler-killed", "reconciler killed (SIGKILL) four times while four pools are made", killReconciler},
	{"apiserver-down", "API server away for a minute", func(w *workload) {
		w.order("stop", "kube-apiserver")
		time.Sleep(time.Minute)
		w.order("start", "kube-apiserver")
	}},
	{"disk-full", "a volume fills the pool's disks, and is emptied", fill},
	{"bricks-rolled", "all bricks restarted by a change of the pool", roll},
	{"nodes-drained", "the bricks of all nodes drained, faster than they heal", drain},
}

// TestFaultBrickKilled is the only fault that make test runs.
func TestFaultBrickKilled(t *testing.T) {
	e := boot(t)
	e.faultPool()
	e.run(faults[0])
}

// TestFaults runs all faults, and writes the table of docs/reliability.md.
func TestFaults(t *testing.T) {
	onlyFull(t)
	e := boot(t)
	e.faultPool()
	table := report.Head(1, "Fault", "Longest stall", "Errors of the application", "Writes taken", "Lost",
		"Healthy after")
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			r, healthy := (&env{T: t, Cluster: e.Cluster}).run(f)
			table.Row(f.what, fmt.Sprintf("%.1f s", r.stall().Seconds()), r.errorsText(), strconv.Itoa(r.Writes),
				strconv.Itoa(r.Missing),
				fmt.Sprintf("%.0f s", healthy.Seconds()))
		})
	}
	t.Log("\n" + table.String())
	if *docsDir != "" && !t.Failed() {
		if err := report.Write(filepath.Join(*docsDir, "reliability.md"), "faults", table.String()); err != nil {
			t.Error(err)
		}
	}
	e.checkNoLeftovers(faultPool)
}

// faultPool creates the Replica3 pool for faults, if it does not exist.
func (e *env) faultPool() {
	e.Helper()
	e.apply(poolDocument(faultPool, `
  type: Replica3
  bricks:
  - {node: n1, device: /dev/disk/by-id/disk-6}
  - {node: n2, device: /dev/disk/by-id/disk-6}
  - {node: n3, device: /dev/disk/by-id/disk-6}`+small))
	e.waitReady(faultPool)
}

// run causes one fault under a writer. It returns what the writer saw, and how long it took until the
// pool was healthy.
func (e *env) run(f fault) (r result, healthy time.Duration) {
	e.Helper()
	e.waitHealthy(faultPool)
	w := e.startWorkload("fault-"+f.name, "atoll."+faultPool, 1, 2)
	start := time.Now()
	f.do(w)
	e.waitHealthy(faultPool)
	healthy = time.Since(start)
	w.waitProgress(50)
	r = w.check()
	e.Logf("%s: longest stall %s, errors: %s, %d writes, %d lost, healthy after %s", f.what, r.stall(), r.errorsText(),
		r.Writes, r.Missing, healthy)
	return r, healthy
}

func (e *env) order(verb, name string) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := e.Control(ctx, verb, name, syscall.SIGKILL); err != nil {
		e.Fatal(err)
	}
}

// glusterfsd returns the process of a brick whose node is n, 0 while there is none.
func (e *env) glusterfsd(n int, pool string, brick int) int {
	e.Helper()
	pids, err := e.Processes(n, "glusterfsd", fmt.Sprintf("%s.brick-%d", pool, brick))
	if err != nil || len(pids) > 1 {
		e.Fatalf("glusterfsd on node %d: %v, %v", n, pids, err)
	}
	if len(pids) == 0 {
		return 0
	}
	return pids[0]
}

// killBricks kills glusterfsd of a pool's bricks, by their nodes, at once, and waits until they run
// again. Brick i of the pool is on node i+1.
func (e *env) killBricks(pool string, nodes ...int) {
	e.Helper()
	killed := map[int]int{}
	for _, n := range nodes {
		e.eventually(limit, "glusterfsd runs", func() error {
			if killed[n] = e.glusterfsd(n, pool, n-1); killed[n] == 0 {
				return fmt.Errorf("none on node %d", n)
			}
			return nil
		})
	}
	for _, pid := range killed {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			e.Fatal(err)
		}
	}
	for n, pid := range killed {
		e.eventually(limit, "glusterfsd is started again", func() error {
			if now := e.glusterfsd(n, pool, n-1); now == 0 || now == pid {
				return fmt.Errorf("node %d has process %d, killed was %d", n, now, pid)
			}
			return nil
		})
	}
}

// cut disconnects a node from the network for a while.
func (e *env) cut(n int, d time.Duration) {
	e.Helper()
	e.order("unplug", fmt.Sprintf("n%d", n))
	time.Sleep(d)
	e.order("plug", fmt.Sprintf("n%d", n))
}

// reboot powers a node off and on. Its network is cut first: processes that end would close
// their connections, which no power failure does.
func (e *env) reboot(n int) {
	e.Helper()
	name := fmt.Sprintf("n%d", n)
	e.order("unplug", name)
	e.order("stop", name)
	time.Sleep(10 * time.Second)
	e.order("start", name)
	e.eventually(limit, name+" is ready", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return e.NodeReady(ctx, n)
	})
	// Its pods count as ready until the kubelet has checked them.
	e.eventually(limit, "the brick's pod runs again", func() error {
		if e.glusterfsd(n, faultPool, n-1) == 0 {
			return errors.New("no glusterfsd")
		}
		return nil
	})
}

// upgrade changes the image of all of Atoll's workloads, as a new version does.
func upgrade(w *workload) {
	for _, u := range []struct{ workload, image string }{
		{"daemonset/atoll-csi-node", "atoll-csi:v1"}, {
			"deployment/atoll-csi-controller",
			"atoll-csi:v1",
		}, {"deployment/atoll-reconciler", "atoll-reconciler:v1"},
	} {
		if strings.Contains(u.workload, "controller") {
			w.kubectl("set", "image", "-n", "atoll-system", u.workload, "controller="+u.image, "catalog="+u.image)
		} else {
			w.kubectl("set", "image", "-n", "atoll-system", u.workload, "*="+u.image)
		}
		w.kubectl("rollout", "status", "-n", "atoll-system", u.workload, "--timeout=2m")
	}
}

// fill writes to another volume until the disks are full, waits until the writer fails, and
// deletes what it wrote.
func fill(w *workload) {
	name := w.name + "-filler"
	w.apply(claim(name, "atoll."+faultPool, "64Mi", "ReadWriteMany") + pod(name, name, podOptions{node: "n2"}))
	w.waitRunning(name)
	w.sh(name, "dd if=/dev/zero of=/data/big bs=1M; dd if=/dev/zero of=/data/small bs=4k; true")
	w.eventually(limit, "the writer gets an error for lack of space", func() error {
		text, err := os.ReadFile(w.ledger())
		if err == nil && !strings.Contains(string(text), "no space left") {
			err = fmt.Errorf("it has no error yet")
		}
		return err
	})
	w.sh(name, "rm -f /data/big /data/small")
	w.finish(name, name)
}

// roll changes the template of all brick pods: the reconciler restarts them one by one.
func roll(w *workload) {
	before := w.field("{.items[*].metadata.uid}", "pod", "-n", "atoll-system", "-l", "atoll.storage/pool="+faultPool)
	w.kubectl("patch", "storagepool", "-n", "atoll-system", faultPool, "--type=merge", "-p",
		`{"spec":{"resources":{"requests":{"cpu":"11m"}}}}`)
	w.eventually(4*limit, "all brick pods are new", func() error {
		now := w.field("{.items[*].metadata.uid}", "pod", "-n", "atoll-system", "-l", "atoll.storage/pool="+faultPool)
		for _, uid := range strings.Fields(before) {
			if strings.Contains(now, uid) {
				return fmt.Errorf("%s is still there", uid)
			}
		}
		if n := len(strings.Fields(now)); n != 3 {
			return fmt.Errorf("there are %d pods", n)
		}
		return nil
	})
}

// drain evicts the brick of each node, and of the next node as soon as the eviction API lets it.
// While a brick is away, it misses a large file.
func drain(w *workload) {
	name := w.name + "-filler"
	w.apply(claim(name, "atoll."+faultPool, "64Mi", "ReadWriteMany") + pod(name, name, podOptions{node: "n2"}))
	w.waitRunning(name)
	for n := 1; n <= 3; n++ {
		node := fmt.Sprintf("n%d", n)
		w.kubectl("drain", node, "--pod-selector=atoll.storage/pool="+faultPool, "--ignore-daemonsets",
			"--delete-emptydir-data", "--timeout=150s")
		w.sh(name, fmt.Sprintf("dd if=/dev/zero of=/data/missed-by-%s bs=1M count=15 conv=fsync", node))
		w.kubectl("uncordon", node)
	}
	w.finish(name, name)
}
