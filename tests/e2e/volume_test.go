package e2e

import (
	"fmt"
	"strings"

	"github.com/atoll-storage/atoll/tests/cluster"
)

// claim is a PersistentVolumeClaim; pod mounts it at /data and sleeps.
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

// podOptions are what a test wants of a pod, as lines of YAML.
type podOptions struct {
	node    string // where it runs
	spec    string // more of its spec, such as "securityContext: {fsGroup: 2000}"
	mount   string // more of its mount, such as "subPath: a"
	command string // a JSON list
}

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

// running waits until pods run.
func (e *env) running(pods ...string) {
	e.Helper()
	for _, p := range pods {
		e.is("{.status.phase}", "Running", "pod", p)
	}
}

// sh runs a line of shell in a pod.
func (e *env) sh(pod, line string) string {
	e.Helper()
	return e.kubectl("exec", pod, "--", "sh", "-c", line)
}

// bound waits until a claim has its volume, and gives its name.
func (e *env) bound(claim string) string {
	e.Helper()
	e.is("{.status.phase}", "Bound", "pvc", claim)
	return e.field("{.spec.volumeName}", "pvc", claim)
}

// ready waits until a pool is ready.
func (e *env) ready(pool string) {
	e.Helper()
	e.is(`{.status.conditions[?(@.type=="Ready")].status}`, "True", "storagepool", "-n", "atoll-system", pool)
}

// deletePool deletes a pool with its bricks' data, and takes its disks back.
func (e *env) deletePool(pool string) {
	e.Helper()
	e.kubectl("delete", "storagepool", "-n", "atoll-system", pool, "--wait=false")
	e.gone("storagepool", "-n", "atoll-system", pool)
	e.gone("statefulset", "-n", "atoll-system", "-l", "atoll.storage/pool="+pool)
	e.gone("storageclass", "atoll."+pool)
}

// lifecycle is a volume's: claimed, written on one node, read on another, grown, deleted.
func (e *env) lifecycle(class string) {
	e.Helper()
	name := strings.ReplaceAll(class, ".", "-")
	writer, reader := name+"-writer", name+"-reader"
	e.apply(claim(name, class, "64Mi", "ReadWriteMany") +
		pod(writer, name, podOptions{node: "n1"}) + pod(reader, name, podOptions{node: "n2"}))
	volume := e.bound(name)
	e.running(writer, reader)
	e.sh(writer, "echo hello from one node >/data/a; mkdir /data/d; dd if=/dev/urandom of=/data/d/random bs=1M count=8 2>/dev/null; sync")
	if have := e.sh(reader, "cat /data/a"); have != "hello from one node\n" {
		e.Errorf("the other node reads %q", have)
	}
	if a, b := e.sh(writer, "sha256sum /data/d/random"), e.sh(reader, "sha256sum /data/d/random"); a != b {
		e.Errorf("nodes read different content: %s, %s", a, b)
	}
	e.expand(name, "128Mi")
	e.kubectl("delete", "pod", writer, reader, "--wait=true", "--timeout=60s")
	e.kubectl("delete", "pvc", name)
	e.gone("pv", volume)
}

// expand grows a volume under its pods. What pods see of it is tested where the kernel has
// XFS quotas (tests/quota); here sizes are advisory, and df tells the pool's.
func (e *env) expand(claim, size string) {
	e.Helper()
	e.kubectl("patch", "pvc", claim, "-p", fmt.Sprintf(`{"spec":{"resources":{"requests":{"storage":%q}}}}`, size))
	e.is("{.status.capacity.storage}", size, "pvc", claim)
}
