package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

const (
	kills  = 6
	claims = 20
)

// kill kills all processes of a program with these arguments on all nodes.
func (e *env) kill(program string, arguments ...string) {
	e.Helper()
	for n := 1; n <= e.Nodes; n++ {
		pids, err := e.Processes(n, program, arguments...)
		if err != nil {
			e.Fatal(err)
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// killController creates and deletes claims, and kills the controller and its sidecars
// meanwhile. The back-off of restarted containers is most of the time until all is healthy.
func killController(w *workload) {
	names := make([]string, claims)
	var documents strings.Builder
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", w.name, i)
		documents.WriteString(claim(names[i], "atoll."+faultPool, "1Mi", "ReadWriteMany"))
	}
	w.apply(documents.String())
	for range kills / 2 {
		time.Sleep(500 * time.Millisecond)
		w.kill("atoll-csi", "controller")
	}
	volumes := make([]string, claims)
	for i, n := range names {
		volumes[i] = w.waitBound(n)
	}
	w.kubectl(append([]string{"delete", "pvc", "--wait=false"}, names...)...)
	for range kills / 2 {
		time.Sleep(500 * time.Millisecond)
		w.kill("atoll-csi", "controller")
	}
	for _, v := range volumes {
		w.waitDeleted("pv", v)
	}
}

// killReconciler creates pools while it kills the reconcilers repeatedly.
func killReconciler(w *workload) {
	const pools = 4
	var documents strings.Builder
	for i := range pools {
		spec := fmt.Sprintf("  type: Replica1\n  bricks:\n  - {node: n%d, path: /srv/killed-%d}", i%w.Nodes+1, i)
		w.makeBrickDirs(spec)
		documents.WriteString(poolDocument(fmt.Sprintf("killed-%d", i), spec+small))
	}
	w.apply(documents.String())
	for range 4 {
		time.Sleep(300 * time.Millisecond)
		w.kill("atoll-reconciler")
	}
	for i := range pools {
		w.waitReady(fmt.Sprintf("killed-%d", i))
	}
	for i := range pools {
		w.deletePool(fmt.Sprintf("killed-%d", i))
	}
}
