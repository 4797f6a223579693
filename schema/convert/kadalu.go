// Package convert turns the documents of the projects that Atoll replaces into its own:
// KadaluStorage into a pool, the StorageClasses of Kadalu and gluster-block into classes of
// Atoll's driver.
package convert

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// Kadalu turns a KadaluStorage document into the pool that it means. What
// it cannot carry over it names in a warning, and what it cannot understand in
// an error; the pool is nil only when there is an error. position returns the position
// of a path of the document.
func Kadalu(doc *yaml.Node, position func(path string) schema.Position) (*schema.Pool, []schema.Diagnostic) {
	k := &converter{position: position, pool: &schema.Pool{APIVersion: schema.APIVersion, Kind: schema.Kind}}
	root := yamlnode.Resolve(doc)
	if root == nil || root.Kind != yaml.MappingNode {
		k.fail("", "kadalu-shape", "the document is not a mapping", "write apiVersion, kind, metadata and spec")
		return nil, k.diagnostics
	}
	k.metadata(yamlnode.Field(root, "metadata"))
	k.spec(yamlnode.Field(root, "spec"))
	for i := range k.diagnostics {
		k.diagnostics[i].Pool = k.pool.Metadata.Name
		if k.diagnostics[i].Severity == schema.SeverityError {
			return nil, k.diagnostics
		}
	}
	return k.pool, k.diagnostics
}

// poolTypes lists the types for a message.
const poolTypes = "Replica1, Replica2, Replica3, Arbiter, Disperse or External"

// lastApplied is an annotation that kubectl adds.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// converter carries one conversion.
type converter struct {
	position    func(path string) schema.Position
	pool        *schema.Pool
	diagnostics []schema.Diagnostic
}

func (k *converter) fail(path, code, message, allowed string) {
	k.add(schema.SeverityError, path, code, message, allowed)
}

func (k *converter) warn(path, code, message, allowed string) {
	k.add(schema.SeverityWarning, path, code, message, allowed)
}

func (k *converter) add(s schema.Severity, path, code, message, allowed string) {
	k.diagnostics = append(k.diagnostics, schema.Diagnostic{
		Position: k.position(path), Severity: s, Code: code, Path: path, Message: message, Allowed: allowed,
	})
}

// metadata keeps name, namespace, labels and annotations, and leaves out what an
// API server adds (kubectl get -o yaml is a common source of such documents).
func (k *converter) metadata(n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		k.fail("metadata", "field-missing", "metadata is missing", "give the pool a name")
		return
	}
	m := &k.pool.Metadata
	m.Name = k.text(yamlnode.Field(n, "name"), "metadata.name")
	m.Namespace = k.text(yamlnode.Field(n, "namespace"), "metadata.namespace")
	m.Labels = k.texts(yamlnode.Field(n, "labels"), "metadata.labels")
	m.Annotations = k.texts(yamlnode.Field(n, "annotations"), "metadata.annotations")
	if m.Annotations == nil {
		m.Annotations = map[string]string{}
	}
	delete(m.Annotations, lastApplied)
	m.Annotations[schema.AnnotationConverted] = schema.KadaluKind
	if m.Name == "" {
		k.fail("metadata.name", "field-missing", "the document has no name", "a name such as storage-pool-1")
	}
}

func (k *converter) spec(n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		k.fail("spec", "field-missing", "spec is missing", "write at least a type")
		return
	}
	s := &k.pool.Spec
	s.Type = k.poolType(yamlnode.Field(n, "type"))
	for key, value := range yamlnode.Pairs(n) {
		path := "spec." + key.Value
		switch fold(key.Value) {
		case "type":
		case "storage":
			k.storage(value, path)
		case "disperse":
			k.disperse(value, path)
		case "tiebreaker":
			k.tiebreaker(value, path)
		case "details":
			k.details(value, path)
		case "singlepvperpool":
			if k.boolean(value, path) {
				s.Volumes = []schema.Layout{schema.Single}
			}
		case "kadaluformat":
			k.format(value, path)
		case "pvreclaimpolicy":
			k.reclaim(value, path)
		case "volumeid":
			s.VolumeID = strings.ToLower(k.text(value, path))
		case "options":
			k.options(value, path)
		case "tolerations":
			if err := value.Decode(&s.Tolerations); err != nil {
				k.fail(path, "kadalu-shape", "the tolerations cannot be read", "a list of tolerations as in a Pod")
			}
		default:
			k.warn(path, "field-unknown", fmt.Sprintf("unknown field %q is left out", key.Value),
				"type, storage, details, disperse, tiebreaker, single_pv_per_pool, pvReclaimPolicy, volume_id, options, tolerations")
		}
	}
	k.needs(n)
	k.sameNode()
}

// sameNode: the operator took several bricks of a set on one node, so a document
// that has them is a pool that runs.
func (k *converter) sameNode() {
	s := &k.pool.Spec
	if s.Type == schema.Replica2 {
		return // checked as a pool
	}
	for _, set := range s.Sets() {
		nodes := map[string]bool{}
		for _, b := range set {
			if b.Node != "" && nodes[b.Node] && !s.AllowSameNode {
				s.AllowSameNode = true
				k.warn("spec.storage", "same-node", fmt.Sprintf("node %s has two bricks of one set: both go when the node goes", b.Node),
					"a node of its own for each brick of a set; the pool gets allowSameNode: true")
			}
			nodes[b.Node] = true
		}
	}
}

// needs names what the type needs and the document lacks.
func (k *converter) needs(n *yaml.Node) {
	s := &k.pool.Spec
	if s.Type == schema.External {
		if s.External == nil && yamlnode.Field(n, "details") == nil {
			k.fail("spec", "field-missing", "an External pool has no details", "details with gluster_host or gluster_hosts, and gluster_volname")
		}
		return
	}
	if len(s.Bricks) == 0 && yamlnode.Field(n, "storage") == nil {
		k.fail("spec", "field-missing", "the pool has no storage", "a list of {node, device}, {node, path} or {pvc}")
	}
	if s.Type == schema.Disperse && s.Disperse == nil && yamlnode.Field(n, "disperse") == nil {
		k.fail("spec", "field-missing", "a Disperse pool has no disperse", "disperse with data and redundancy")
	}
	if s.VolumeID == "" && s.Type != "" {
		k.warn("spec", "kadalu-volume-id", "the document does not tell the volume ID of the bricks, so a new one is derived",
			"to adopt bricks that hold data, set volume_id to what Kadalu's ConfigMap kadalu-info says")
	}
}

// poolType accepts the types in any case, as people wrote them.
func (k *converter) poolType(n *yaml.Node) schema.Type {
	known := []schema.Type{schema.Replica1, schema.Replica2, schema.Replica3, schema.Arbiter, schema.Disperse, schema.External}
	written := k.text(n, "spec.type")
	for _, t := range known {
		if string(t) == written {
			return t
		}
		if strings.EqualFold(string(t), written) {
			k.warn("spec.type", "kadalu-case", fmt.Sprintf("type %q is taken for %s", written, t), "write "+string(t))
			return t
		}
	}
	k.fail("spec.type", "value", fmt.Sprintf("%q is not a pool type", written), poolTypes)
	return ""
}

// storage reads the bricks; a brick with neither device, path nor pvc is refused
// where it stands.
func (k *converter) storage(n *yaml.Node, path string) {
	n = yamlnode.Resolve(n)
	if n.Kind != yaml.SequenceNode {
		k.fail(path, "kadalu-shape", "storage is not a list", "a list of {node, device}, {node, path} or {pvc}")
		return
	}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		item = yamlnode.Resolve(item)
		if item.Kind != yaml.MappingNode {
			k.fail(at, "kadalu-shape", "this is not a brick", "{node, device}, {node, path} or {pvc}")
			continue
		}
		k.pool.Spec.Bricks = append(k.pool.Spec.Bricks, k.brick(item, at))
	}
}

func (k *converter) brick(n *yaml.Node, at string) schema.Brick {
	var b schema.Brick
	for key, value := range yamlnode.Pairs(n) {
		p := at + "." + key.Value
		switch fold(key.Value) {
		case "node":
			b.Node = k.text(value, p)
		case "device":
			b.Device = k.text(value, p)
		case "path":
			b.Path = trimSlash(k.text(value, p))
		case "pvc":
			b.PVC = k.text(value, p)
		case "decommissioned":
			b.Decommissioned = k.boolean(value, p)
		default:
			k.warn(p, "field-unknown", fmt.Sprintf("unknown field %q is left out", key.Value), "node, device, path, pvc, decommissioned")
		}
	}
	places := 0
	for _, place := range []string{b.Device, b.Path, b.PVC} {
		if place != "" {
			places++
		}
	}
	if places != 1 {
		k.fail(at, "brick-place", "a brick needs exactly one of device, path and pvc", "{node, device}, {node, path} or {pvc}")
	}
	if b.PVC != "" && b.Node != "" {
		k.warn(at+".node", "kadalu-node", "a brick on a claim has no node of its own; the node is left out", "the claim tells where it can be used")
		b.Node = ""
	}
	return b
}
