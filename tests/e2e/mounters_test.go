package e2e

import (
	"fmt"
	"strings"
	"testing"
)

const mounterPods = "app.kubernetes.io/name=atoll-csi-mounter"

// TestClientsUpgraded changes the image of the clients under writers on three nodes. They notice nothing,
// and the former mounters end with their last volume.
func TestClientsUpgraded(t *testing.T) {
	e := boot(t)
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
		if r := w.check(); len(r.Errors) > 0 || r.Missing > 0 {
			t.Errorf("%s: errors %s, %d lost, longest stall %s", w.name, r.errorsText(), r.Missing, r.stall())
		} else {
			t.Logf("%s: %d writes, longest stall %s", w.name, r.Writes, r.stall())
		}
	}
	if now := blocks.uid(); now != uid {
		t.Errorf("the pod with the block volume is %s, before %s", now, uid)
	}
	blocks.checkSet()
	e.eventually(limit, "the former mounters have ended", func() error {
		if now := e.mounters(); len(now) != e.Nodes {
			return fmt.Errorf("mounters %v", now)
		}
		return nil
	})
	e.deletePool("upgrades")
}

// mounters lists the pods of all mounters, also those that end.
func (e *env) mounters() []string {
	e.Helper()
	return strings.Fields(e.kubectl("get", "pods", "-n", "atoll-system", "-l", mounterPods, "-o", "name"))
}
