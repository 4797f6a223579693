package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

const recoveryPool = `
  type: Replica3
  bricks:
  - {node: n1, path: /srv/recovers}
  - {node: n2, path: /srv/recovers}
  - {node: n3, path: /srv/recovers}
  volumes: [Subdirectory, Block]`

// TestRecovery ends the clients of a node under applications, as crashes of a client and of the mounter do. Those
// that have a controller are evicted and go on with all that they had written; others are told.
func TestRecovery(t *testing.T) {
	e := boot(t)
	e.makeBrickDirs(recoveryPool)
	e.apply(poolDocument("recovers", recoveryPool+small))
	e.waitReady("recovers")
	files, blocks := e.startSet("recover-files", "atoll.recovers", "ReadWriteMany"),
		e.startSet("recover-blocks", "atoll.recovers.block", "ReadWriteOnce")
	e.apply(claim("recover-bare", "atoll.recovers", "64Mi", "ReadWriteMany") +
		pod("recover-bare", "recover-bare", podOptions{node: "n1"}))
	e.waitRunning("recover-bare")
	bare := e.field("{.metadata.uid}", "pod", "recover-bare")
	for _, loss := range []struct {
		name string
		do   func()
	}{
		{"client killed", func() { e.killClients(1) }},
		{"mounter killed", func() { e.killMounters(1) }},
	} {
		if loss.name == "mounter killed" && !*full {
			break // make e2e has it
		}
		before := map[*workload]string{files: files.uid(), blocks: blocks.uid()}
		loss.do()
		for w, uid := range before {
			e.eventually(2*limit, fmt.Sprintf("%s: %s has a new pod that runs", loss.name, w.name), func() error {
				if now := w.uid(); now == uid || now == "" {
					return fmt.Errorf("its pod is %s", now)
				}
				return nil
			})
			w.waitProgress(20)
		}
		e.waitEvent("recover-bare", "it has no controller that would create it again")
		if now := e.field("{.metadata.uid}", "pod", "recover-bare"); now != bare {
			t.Errorf("%s: the bare pod is %s, before %s", loss.name, now, bare)
		}
	}
	e.finish("recover-bare", "recover-bare")
	for _, w := range []*workload{files, blocks} {
		w.checkSet()
	}
	e.deletePool("recovers")
}

// startSet starts a StatefulSet whose pod writes on node 1.
func (e *env) startSet(name, class, mode string) *workload {
	e.Helper()
	w := &workload{env: e, name: name, writer: 1}
	template := strings.ReplaceAll(pod(name, name, podOptions{
		node: "n1", command: fmt.Sprintf(`[ledger, write, /data, /ledger/%s]`, name),
	}), "restartPolicy: Never", "restartPolicy: Always")
	_, spec, _ := strings.Cut(strings.TrimSuffix(template, "---"), "spec:\n")
	e.apply(claim(name, class, "64Mi", mode) + fmt.Sprintf(`
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %[1]s}
spec:
  serviceName: %[1]s
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
%[2]s
---`, name, "    "+strings.ReplaceAll(spec, "\n", "\n    ")))
	w.waitProgress(20)
	return w
}

// uid is that of the workload's pod, "" unless it is ready and stays.
func (w *workload) uid() string {
	ready := w.field(`{.status.conditions[?(@.type=="Ready")].status}{.metadata.deletionTimestamp}`, "pod", w.name+"-0")
	if ready != "True" {
		return ""
	}
	return w.field("{.metadata.uid}", "pod", w.name+"-0")
}

// checkSet ends a StatefulSet, and reads every byte that it wrote.
func (w *workload) checkSet() result {
	w.Helper()
	w.kubectl("scale", "statefulset", w.name, "--replicas=0")
	w.waitDeleted("pod", w.name+"-0")
	reader := w.name + "-reader"
	w.apply(pod(reader, w.name, podOptions{node: "n2"}))
	w.waitRunning(reader)
	r := w.readBy(reader)
	w.Logf("%s: longest stall %s, errors: %s, %d writes, %d lost", w.name, r.stall(), r.errorsText(), r.Writes,
		r.Missing)
	if r.Missing > 0 || r.Writes == 0 {
		w.Errorf("%s: %d of %d writes are lost: %s", w.name, r.Missing, r.Writes, strings.Join(r.Lost, "; "))
	}
	w.kubectl("delete", "statefulset", w.name)
	w.finish(w.name, reader)
	return r
}

// killMounters kills the mounters of a node, and with them their clients.
func (e *env) killMounters(n int) {
	e.Helper()
	pids, err := e.Processes(n, "atoll-csi", "mounter")
	if err != nil || len(pids) == 0 {
		e.Fatalf("mounters: %v, %v", pids, err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			e.Fatal(err)
		}
	}
}

// killClients kills the clients of a node's volumes. Those of the controller, which may be on the same
// node, have their mounts elsewhere.
func (e *env) killClients(n int) {
	e.Helper()
	pids, err := e.Processes(n, "glusterfs", "fuse")
	if err != nil {
		e.Fatal(err)
	}
	killed := 0
	for _, pid := range pids {
		command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.Contains(string(command), "/var/lib/kubelet/plugins/") {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			e.Fatal(err)
		}
		killed++
	}
	if killed == 0 {
		e.Fatal(errors.New("no client runs on the node"))
	}
}
