package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

func poolDocument(name, spec string) string {
	return fmt.Sprintf(`
apiVersion: atoll.storage/v1alpha1
kind: StoragePool
metadata: {name: %s, namespace: atoll-system}
spec:
  deletionPolicy: Delete
%s
---`, name, spec)
}

// small sets small resource requests: many pools share three nodes and two cores.
const small = `
  resources: {requests: {cpu: 10m, memory: 64Mi}}`

// nativePools are pools of every native type, on devices and paths of the three nodes.
var nativePools = map[string]string{
	"replica1": `
  type: Replica1
  bricks:
  - {node: n2, path: /srv/replica1}`,
	"replica2": `
  type: Replica2
  bricks:
  - {node: n1, path: /srv/replica2}
  - {node: n3, path: /srv/replica2}`,
	"replica3": `
  type: Replica3
  bricks:
  - {node: n1, device: /dev/disk/by-id/disk-1}
  - {node: n2, device: /dev/disk/by-id/disk-1}
  - {node: n3, device: /dev/disk/by-id/disk-1}`,
	"arbiter": `
  type: Arbiter
  bricks:
  - {node: n1, device: /dev/disk/by-id/disk-2}
  - {node: n2, device: /dev/disk/by-id/disk-2}
  - {node: n3, path: /srv/arbiter}`,
	"disperse": `
  type: Disperse
  disperse: {data: 2, redundancy: 1}
  bricks:
  - {node: n1, device: /dev/disk/by-id/disk-3}
  - {node: n2, device: /dev/disk/by-id/disk-3}
  - {node: n3, device: /dev/disk/by-id/disk-3}`,
}

func TestReplica3(t *testing.T) { testNative(t, "replica3") }

func TestOtherTypes(t *testing.T) {
	onlyFull(t)
	for _, name := range []string{"replica1", "replica2", "arbiter", "disperse"} {
		t.Run(name, func(t *testing.T) { testNative(t, name) })
	}
}

// testNative creates a pool, takes a volume through its lifecycle, and deletes the pool.
func testNative(t *testing.T, name string) {
	e := boot(t)
	e.makeBrickDirs(nativePools[name])
	e.apply(poolDocument(name, nativePools[name]+small))
	e.waitReady(name)
	e.lifecycle("atoll." + name)
	e.checkNoLeftovers(name)
	e.deletePool(name)
}

var pathBrick = regexp.MustCompile(`node: n(\d+), path: (\S+)}`)

// makeBrickDirs creates the directories of a pool's path bricks, as an administrator does.
// Atoll does not: creating one could hide an unmounted disk.
func (e *env) makeBrickDirs(spec string) {
	e.Helper()
	for _, m := range pathBrick.FindAllStringSubmatch(spec, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			e.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(e.NodeDir(n), m[2]), 0o755); err != nil { // nodes have /srv as srv
			e.Fatal(err)
		}
	}
}
