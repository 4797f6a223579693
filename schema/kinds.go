package schema

import (
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema/shape"
)

// Shape is the definition of a pool, compiled from PoolCUE.
func Shape() (*shape.Definition, error) {
	return shape.Compile(PoolCUE, "#StoragePool", "spec.type")
}

// JSONSchema is the definition for editors, as JSON schema draft-07.
func JSONSchema() ([]byte, error) {
	return poolShape().JSONSchema("https://atoll.storage/schema/v1alpha1/storagepool.json", "StoragePool")
}

var poolShape = sync.OnceValue(func() *shape.Definition {
	d, err := Shape()
	if err != nil {
		panic("the embedded pool.cue does not compile: " + err.Error())
	}
	return d
})

// isPool accepts a document that is nearly a pool too, so that a misspelled kind
// or a forgotten apiVersion is reported and not passed over.
func isPool(version, kind string, root *yaml.Node) bool {
	group, _, _ := strings.Cut(APIVersion, "/")
	if strings.HasPrefix(version, group) || kind == Kind {
		return true
	}
	spec := field(root, "spec")
	if kind != "" || version != "" || spec == nil {
		return false
	}
	return slices.Contains(poolShape().Values, scalar(spec, "type")) && (field(spec, "bricks") != nil || field(spec, "external") != nil)
}

func isKadalu(version, kind string) bool {
	group, _, _ := strings.Cut(KadaluAPIVersion, "/")
	return strings.HasPrefix(version, group) || kind == KadaluKind
}

// isList reports whether a document is a List of others, as kubectl prints them.
func isList(version, kind string) bool {
	switch kind {
	case "List":
		return version == "v1"
	case Kind + "List", KadaluKind + "List", "StorageClassList":
		return true
	}
	return false
}

// kadaluPath turns the path of a pool into the one of the KadaluStorage document
// from which it was converted.
func kadaluPath(path string) string {
	for _, c := range [][2]string{
		{"spec.bricks", "spec.storage"},
		{"spec.external", "spec.details"},
		{"spec.reclaim", "spec.pvReclaimPolicy"},
		{"spec.volumeID", "spec.volume_id"},
		{"spec.volumes", "spec.single_pv_per_pool"},
	} {
		if rest, found := strings.CutPrefix(path, c[0]); found && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			switch c[1] {
			case "spec.storage":
				return c[1] + rest
			case "spec.details":
				for from, to := range map[string]string{".hosts": ".gluster_hosts", ".volume": ".gluster_volname", ".options": ".gluster_options", ".port": ".gluster_port"} {
					if tail, is := strings.CutPrefix(rest, from); is {
						return c[1] + to + tail
					}
				}
			}
			return c[1]
		}
	}
	return path
}
