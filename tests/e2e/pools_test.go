package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

func poolOf(name, spec string) string {
	return fmt.Sprintf(`
apiVersion: atoll.storage/v1alpha1
kind: StoragePool
metadata: {name: %s, namespace: atoll-system}
spec:
  deletionPolicy: Delete
%s
---`, name, spec)
}

// small is what bricks ask for when many pools share three nodes of two cores.
const small = `
  resources: {requests: {cpu: 10m, memory: 64Mi}}`

// native are pools of every type, from devices and from folders, on the three nodes.
var native = map[string]string{
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
	long(t)
	for _, name := range []string{"replica1", "replica2", "arbiter", "disperse"} {
		t.Run(name, func(t *testing.T) { testNative(t, name) })
	}
}

// testNative takes a pool from nothing over a volume's life to nothing.
func testNative(t *testing.T, name string) {
	e := boot(t)
	e.folders(native[name])
	e.apply(poolOf(name, native[name]+small))
	e.ready(name)
	e.lifecycle("atoll." + name)
	e.leftovers(name)
	e.deletePool(name)
}

var pathBrick = regexp.MustCompile(`node: n(\d+), path: (\S+)}`)

// folders makes those of a pool's path bricks, as an administrator does: Atoll takes no
// folder that is not there, for it might be the place of a disk that is not mounted.
func (e *env) folders(spec string) {
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
