package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/tests/internal/cluster"
)

// TestExternal uses volumes of a glusterd outside Kubernetes.
func TestExternal(t *testing.T) {
	e := boot(t)
	e.apply(poolDocument("archive", `
  type: External
  external: {hosts: [`+cluster.GlusterAddress+`], volume: vol1}`))
	e.waitReady("archive")
	e.lifecycle("atoll.archive")
	e.checkExternalEmpty("vol1")
	e.deletePool("archive")
}

// checkExternalEmpty verifies that nothing is left on an external volume's brick.
func (e *env) checkExternalEmpty(volume string) {
	e.Helper()
	e.waitEmpty(filepath.Join(e.Dir, "nodes/gluster/srv", volume))
}

// TestSingle mounts a whole pool as one volume: by a claim, and by a static PersistentVolume
// with data that existed before Atoll.
func TestSingle(t *testing.T) {
	onlyFull(t)
	e := boot(t)
	brick := filepath.Join(e.Dir, "nodes/gluster/srv/media")
	e.apply(poolDocument("media", `
  type: External
  external: {hosts: [`+cluster.GlusterAddress+`], volume: media}
  volumes: [Single]
  reclaim: Retain`))
	e.waitReady("media")
	e.apply(claim("whole", "atoll.media", "1Gi", "ReadWriteMany") + pod("whole", "whole", podOptions{node: "n1"}))
	e.waitRunning("whole")
	e.sh("whole", "echo kept >/data/film")
	if text, err := os.ReadFile(filepath.Join(brick, "film")); err != nil || string(text) != "kept\n" {
		t.Errorf("the pool's root has %q, %v", text, err)
	}
	e.apply(claim("second", "atoll.media", "1Gi", "ReadWriteMany"))
	e.waitEvent("second", "whole pool")
	volume := e.waitBound("whole")
	handle := e.field("{.spec.csi.volumeHandle}", "pv", volume)
	e.kubectl("delete", "pod", "whole")
	e.kubectl("delete", "pvc", "whole", "second")
	e.waitField("{.status.phase}", "Released", "pv", volume) // reclaim: Retain
	e.kubectl("delete", "pv", volume)

	e.apply(`
apiVersion: v1
kind: PersistentVolume
metadata: {name: media}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadOnlyMany]
  persistentVolumeReclaimPolicy: Retain
  storageClassName: ""
  csi: {driver: csi.atoll.storage, volumeHandle: ` + handle + `, readOnly: true}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: static}
spec:
  storageClassName: ""
  volumeName: media
  accessModes: [ReadOnlyMany]
  resources: {requests: {storage: 1Gi}}
---` + pod("static", "static", podOptions{node: "n2"}))
	e.waitRunning("static")
	if have := e.sh("static", "cat /data/film"); have != "kept\n" {
		t.Errorf("the static volume has %q", have)
	}
	if out, err := e.tryKubectl("", "exec", "static", "--", "touch", "/data/new"); err == nil ||
		!strings.Contains(err.Error(), "Read-only") {
		t.Errorf("writing to a volume that is read only: %s %v", out, err)
	}
	e.kubectl("delete", "pod", "static")
	e.kubectl("delete", "pvc", "static")
	e.kubectl("delete", "pv", "media")
}

// TestKadalu applies documents of Kadalu's repository, with the nodes, disks and hosts of this
// cluster and otherwise unchanged.
func TestKadalu(t *testing.T) {
	onlyFull(t)
	e := boot(t)
	for _, c := range []struct{ file, pool, class string }{
		{"device-replica1.yaml", "storage-pool-1", "kadalu.storage-pool-1"},
		{"path-replica1.yaml", "storage-pool-2", "kadalu.storage-pool-2"},
		{"external-host.yaml", "storage-pool-3", "kadalu.external.storage-pool-3"},
	} {
		t.Run(c.pool, func(t *testing.T) {
			e := &env{T: t, Cluster: e.Cluster}
			text, err := os.ReadFile(filepath.Join("../../schema/testdata/kadalu", c.file))
			if err != nil {
				t.Fatal(err)
			}
			document := strings.NewReplacer("node: master", "node: n1", "/dev/sdb4", "/dev/disk/by-id/disk-4",
				"glusternode-100.1", cluster.GlusterAddress, "glusterfs_volume1", "kadalu").Replace(string(text))
			if _, err := e.tryKubectl(document, "apply", "--server-side", "-n", "atoll-system", "-f", "-"); err != nil {
				t.Fatal(err)
			}
			e.waitField(`{.status.conditions[?(@.type=="Ready")].status}`, "True", "kadalustorage", "-n",
				"atoll-system", c.pool)
			e.lifecycle(c.class)
			e.kubectl("delete", "kadalustorage", "-n", "atoll-system", c.pool)
		})
	}
}
