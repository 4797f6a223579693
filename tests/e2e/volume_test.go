package e2e

import (
	"fmt"
	"strings"

	"github.com/atoll-storage/atoll/tests/internal/cluster"
)

// claim is the document of a PersistentVolumeClaim.
func claim(name, class, size, mode string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %s}
spec:
  storageClassName: %s
  accessModes: [%s]
  resources: {requests: {storage: %s}}
---`, name, class, mode, size)
}

// podOptions are parts of a pod's document, as lines of YAML.
type podOptions struct {
	node    string // name of the node
	spec    string // further fields of the spec, such as "securityContext: {fsGroup: 2000}"
	mount   string // further fields of the mount, such as "subPath: a"
	command string // a JSON list; default is to sleep
}

// pod is the document of a pod that mounts a claim at /data.

func pod(name, claim string, o podOptions) string {
	if o.command == "" {
		o.command = `[sleep, "100000"]`
	}
	node := ""
	if o.node != "" {
		node = "nodeSelector: {kubernetes.io/hostname: " + o.node + "}"
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, labels: {app: %[1]s}}
spec:
  terminationGracePeriodSeconds: 5
  restartPolicy: Never
  %[3]s
  %[4]s
  containers:
  - name: main
    image: %[5]s
    imagePullPolicy: IfNotPresent
    command: %[6]s
    volumeMounts:
    - {name: data, mountPath: /data%[7]s}
    - {name: ledger, mountPath: /ledger}
  volumes:
  - {name: data, persistentVolumeClaim: {claimName: %[2]s}}
  - {name: ledger, hostPath: {path: /srv/ledger, type: DirectoryOrCreate}}
---`, name, claim, node, o.spec, cluster.Ledger, o.command, prefixed(", ", o.mount))
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

// waitRunning waits until pods run.
func (e *env) waitRunning(pods ...string) {
	e.Helper()
	for _, p := range pods {
		e.waitField("{.status.phase}", "Running", "pod", p)
	}
}

// sh runs a shell command in a pod.
func (e *env) sh(pod, line string) string {
	e.Helper()
	return e.kubectl("exec", pod, "--", "sh", "-c", line)
}

// waitBound waits until a claim is bound, and returns the name of its volume.
func (e *env) waitBound(claim string) string {
	e.Helper()
	e.waitField("{.status.phase}", "Bound", "pvc", claim)
	return e.field("{.spec.volumeName}", "pvc", claim)
}

// waitReady waits until a pool is ready.
func (e *env) waitReady(pool string) {
	e.Helper()
	e.waitField(`{.status.conditions[?(@.type=="Ready")].status}`, "True", "storagepool", "-n", "atoll-system", pool)
}

// deletePool deletes a pool and waits until its objects are deleted.
func (e *env) deletePool(pool string) {
	e.Helper()
	e.kubectl("delete", "storagepool", "-n", "atoll-system", pool, "--wait=false")
	e.waitDeleted("storagepool", "-n", "atoll-system", pool)
	e.waitDeleted("statefulset", "-n", "atoll-system", "-l", "atoll.storage/pool="+pool)
	e.waitDeleted("storageclass", "atoll."+pool)
}

// lifecycle claims a volume, writes it on one node, reads it on another, expands and deletes it.
func (e *env) lifecycle(class string) {
	e.Helper()
	name := strings.ReplaceAll(class, ".", "-")
	writer, reader := name+"-writer", name+"-reader"
	e.apply(claim(name, class, "64Mi", "ReadWriteMany") +
		pod(writer, name, podOptions{node: "n1"}) + pod(reader, name, podOptions{node: "n2"}))
	volume := e.waitBound(name)
	e.waitRunning(writer, reader)
	e.sh(writer,
		"echo hello from one node >/data/a; mkdir /data/d; dd if=/dev/urandom of=/data/d/random bs=1M count=8 2>/dev/null; sync")
	if have := e.sh(reader, "cat /data/a"); have != "hello from one node\n" {
		e.Errorf("the other node reads %q", have)
	}
	if a, b := e.sh(writer, "sha256sum /data/d/random"), e.sh(reader, "sha256sum /data/d/random"); a != b {
		e.Errorf("nodes read different content: %s, %s", a, b)
	}
	e.expand(name, "128Mi")
	e.kubectl("delete", "pod", writer, reader, "--wait=true", "--timeout=60s")
	e.kubectl("delete", "pvc", name)
	e.waitDeleted("pv", volume)
}

// expand expands a volume that pods use. What pods see is tested in tests/quota, where the
// kernel has XFS quotas; here sizes are advisory, and df shows the pool's size.
func (e *env) expand(claim, size string) {
	e.Helper()
	e.kubectl("patch", "pvc", claim, "-p", fmt.Sprintf(`{"spec":{"resources":{"requests":{"storage":%q}}}}`, size))
	e.waitField("{.status.capacity.storage}", size, "pvc", claim)
}
