package e2e

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/tests/internal/report"
)

const mounterPods = "app.kubernetes.io/name=atoll-csi-mounter"

// TestClientsUpgraded changes the image of the clients under writers on three nodes. They notice nothing,
// and the former mounters end with their last volume.
func TestClientsUpgraded(t *testing.T) {
	onlyFull(t)
	e := boot(t)
	table := report.Head(1, "Application", "Longest stall", "Errors", "Writes taken", "Lost")
	spec := strings.ReplaceAll(recoveryPool, "recovers", "upgrades")
	e.makeBrickDirs(spec)
	e.apply(poolDocument("upgrades", spec+small))
	e.waitReady("upgrades")
	var writers []*workload
	for n := 1; n <= e.Nodes; n++ {
		writers = append(writers, e.startWorkload(fmt.Sprintf("upgrade-%d", n), "atoll.upgrades", n, n%e.Nodes+1))
	}
	blocks := e.startSet("upgrade-blocks", "atoll.upgrades.block", "ReadWriteOnce")
	uid := blocks.uid()
	e.kubectl("set", "image", "-n", "atoll-system", "daemonset/atoll-csi-mounter", "*=atoll-csi:v1")
	e.kubectl("rollout", "status", "-n", "atoll-system", "daemonset/atoll-csi-mounter", "--timeout=3m")
	for _, w := range append(writers, blocks) {
		w.waitProgress(50)
	}
	if now := e.mounters(); len(now) != 2*e.Nodes {
		t.Errorf("mounters while their volumes are used: %v", now)
	}
	later := e.startWorkload("upgrade-later", "atoll.upgrades", 1, 2)
	for _, w := range append(writers, later) {
		r := w.check()
		if len(r.Errors) > 0 || r.Missing > 0 {
			t.Errorf("%s: errors %s, %d lost, longest stall %s", w.name, r.errorsText(), r.Missing, r.stall())
		}
		what := fmt.Sprintf("files, node %d", w.writer)
		if w == later {
			what += ", started afterwards"
		}
		table.Row(what, fmt.Sprintf("%.1f s", r.stall().Seconds()), r.errorsText(), strconv.Itoa(r.Writes),
			strconv.Itoa(r.Missing))
	}
	if now := blocks.uid(); now != uid {
		t.Errorf("the pod with the block volume is %s, before %s", now, uid)
	}
	r := blocks.checkSet()
	table.Row("block volume, node 1", fmt.Sprintf("%.1f s", r.stall().Seconds()), r.errorsText(), strconv.Itoa(r.Writes),
		strconv.Itoa(r.Missing))
	if len(r.Errors) > 0 {
		t.Errorf("the block volume had errors: %s", r.errorsText())
	}
	e.eventually(limit, "the former mounters have ended", func() error {
		if now := e.mounters(); len(now) != e.Nodes {
			return fmt.Errorf("mounters %v", now)
		}
		return nil
	})
	e.deletePool("upgrades")
	t.Log("\n" + table.String())
	if *docsDir != "" && !t.Failed() {
		if err := report.Write(filepath.Join(*docsDir, "reliability.md"), "upgrades", table.String()); err != nil {
			t.Error(err)
		}
	}
}

// mounters lists the pods of all mounters, also those that end.
func (e *env) mounters() []string {
	e.Helper()
	return strings.Fields(e.kubectl("get", "pods", "-n", "atoll-system", "-l", mounterPods, "-o", "name"))
}
