package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// snapshot is a VolumeSnapshot of a claim.
func snapshot(name, claim string) string {
	return fmt.Sprintf(`
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: %s}
spec: {volumeSnapshotClassName: atoll, source: {persistentVolumeClaimName: %s}}
---`, name, claim)
}

// claimOf is a claim with a data source: a VolumeSnapshot or a PersistentVolumeClaim.
func claimOf(name, class, size, kind, source string) string {
	group := ""
	if kind == "VolumeSnapshot" {
		group = "apiGroup: snapshot.storage.k8s.io, "
	}
	return strings.Replace(claim(name, class, size, "ReadWriteOnce"), "spec:\n",
		"spec:\n  dataSource: {"+group+"kind: "+kind+", name: "+source+"}\n", 1)
}

// copied is when a copy of a volume under its writer was requested, and when it was known to
// be ready.
type copied struct{ asked, there time.Time }

// writesInCopy bounds the number of writes in such a copy: at least those acknowledged before
// it was requested, at most those that had begun before it was ready. Pods share this host's
// clock.
func (w *workload) writesInCopy(c copied) (least, most int) {
	w.Helper()
	text, err := os.ReadFile(w.ledger())
	if err != nil {
		w.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var entry struct {
			At     time.Time
			Micros int64
			Error  string
		}
		if !strings.HasSuffix(line, "\n") { // incomplete
			break
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Error != "" {
			w.Errorf("the ledger has %q (%v)", line, err)
			continue
		}
		if entry.At.Add(time.Duration(entry.Micros) * time.Microsecond).Before(c.asked) {
			least++
		}
		if entry.At.Before(c.there) {
			most++
		}
	}
	return least, most
}

// checkCopy verifies that a pod's volume is the source at one moment: it has all writes up to
// one of them, each synced before the next, and none after.
func (w *workload) checkCopy(pod string, c copied) {
	w.Helper()
	r := w.readBy(pod)
	least, most := w.writesInCopy(c)
	if r.Whole < least || r.Whole > most || r.Missing != r.Writes-r.Whole {
		w.Errorf("%s has the first %d of %d writes and lacks %d; it must have the first %d, and may have %d: %s",
			pod, r.Whole, r.Writes, r.Missing, least, most, strings.Join(r.Lost, "; "))
	}
	w.Logf("%s has %d writes, must have %d and may have %d; the longest write of all took %s", pod, r.Whole, least,
		most, r.stall())
}

// snapshotAndClone makes a snapshot and a clone of a volume under its writer. They are read on
// another node and on the writer's, and survive the deletion of their source.
func snapshotAndClone(e *env) {
	for _, class := range []string{"atoll.blocks.block", "ext4"} {
		name := "copied-" + strings.ReplaceAll(class, ".", "-")
		w := &workload{env: e, name: name, writer: 1}
		if err := os.Remove(w.ledger()); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a former run
			e.Fatal(err)
		}
		e.apply(claim(name, class, "300Mi", "ReadWriteOnce") +
			pod(name, name, podOptions{node: "n1", command: "[ledger, write, /data, /ledger/" + name + "]"}))
		e.waitRunning(name)
		w.waitProgress(100)

		snapped := copied{asked: time.Now()}
		e.apply(snapshot(name, name))
		e.waitField("{.status.readyToUse}", "true", "volumesnapshot", name)
		snapped.there = time.Now()
		content := e.field("{.status.boundVolumeSnapshotContentName}", "volumesnapshot", name)
		w.waitProgress(20)

		restored, clone, again := name+"-restored", name+"-clone", name+"-again"
		cloned := copied{asked: time.Now()}
		e.apply(claimOf(clone, class, "300Mi", "PersistentVolumeClaim", name))
		e.waitBound(clone)
		cloned.there = time.Now()
		w.waitProgress(20)

		e.apply(claimOf(restored, class, "400Mi", "VolumeSnapshot", name) +
			pod(restored, restored, podOptions{node: "n2"}) + pod(clone, clone, podOptions{node: "n1"}))
		e.waitRunning(restored, clone)
		w.checkCopy(restored, snapped)
		w.checkCopy(clone, cloned)
		if size := strings.Fields(e.sh(restored, "df -m /data | tail -n 1")); len(size) < 2 || size[1] < "310" {
			e.Errorf("a larger copy of %s has a file system of %v", class, size)
		}
		e.sh(restored, "echo mine > /data/mine; sync")
		e.sh(clone, "test ! -e /data/mine")
		e.sh(name, "test ! -e /data/mine")

		e.finish(name, name)
		e.kubectl("delete", "pod", restored, clone)
		e.apply(claimOf(again, class, "300Mi", "VolumeSnapshot", name) + pod(again, again, podOptions{node: "n3"}) +
			pod(restored, restored, podOptions{node: "n1"}) + pod(clone, clone, podOptions{node: "n3"}))
		e.waitRunning(again, restored, clone)
		w.checkCopy(again, snapped)
		w.checkCopy(restored, snapped)
		w.checkCopy(clone, cloned)
		if got := e.sh(restored, "cat /data/mine"); got != "mine\n" {
			e.Errorf("the copy has lost what was written to it: %q", got)
		}
		e.kubectl("delete", "volumesnapshot", name)
		e.waitDeleted("volumesnapshotcontent", content)
		w.checkCopy(again, snapped)
		for _, c := range []string{again, restored, clone} {
			e.finish(c, c)
		}
	}
	for _, c := range []string{"provisioner", "snapshotter"} {
		if log := e.kubectl("logs", "-n", "atoll-system", "deployment/atoll-csi-controller", "-c",
			c); strings.Contains(log, "forbidden") {
			e.Errorf("the role lacks a permission that the %s needs: %s", c, log)
		}
	}
}

// subdirectorySnapshotRefused: a snapshot of a subdirectory volume fails with the reason.
func subdirectorySnapshotRefused(e *env) {
	e.apply(claim("folder", "atoll.blocks", "10Mi", "ReadWriteMany") + snapshot("folder", "folder"))
	e.eventually(limit, "the snapshot is refused", func() error {
		if said := e.field("{.status.error.message}", "volumesnapshot", "folder"); !strings.Contains(said,
			"InvalidArgument") {
			return fmt.Errorf("the error is %q", said)
		}
		return nil
	})
	e.kubectl("delete", "volumesnapshot", "folder", "--timeout=1m")
	volume := e.field("{.spec.volumeName}", "pvc", "folder")
	e.kubectl("delete", "pvc", "folder")
	e.waitDeleted("pv", volume)
}
