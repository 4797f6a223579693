// Package convert turns the documents of the projects that Atoll replaces into its own:
// KadaluStorage into a pool, StorageClasses of Kadalu and gluster-block into classes of
// Atoll's driver.
package convert

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// Kadalu converts a KadaluStorage document to a pool. Fields that it cannot carry over
// become warnings, fields that it cannot read become errors. The pool is nil only if
// there is an error. position returns the position of a path of the document.
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

// brickShape describes a brick in a message.
const brickShape = "{node, device}, {node, path} or {pvc}"

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

// metadata keeps name, namespace, labels and annotations, and drops what an API server
// adds: many such documents come from kubectl get -o yaml.
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
	k.mapping(n, "spec", "spec", "write at least a type", []fieldReader{
		{name: "type", read: func(*yaml.Node, string) {}}, // read above
		{name: "storage", read: k.storage},
		{name: "details", read: k.details},
		{name: "disperse", read: k.disperse},
		{name: "tiebreaker", read: k.tiebreaker},
		{name: "single_pv_per_pool", read: k.single},
		{name: "kadalu_format", read: k.format, legacy: true},
		{name: "pvReclaimPolicy", read: k.reclaim},
		{name: "volume_id", read: func(value *yaml.Node, path string) {
			s.VolumeID = strings.ToLower(k.text(value, path))
		}},
		{name: "options", read: k.options},
		{name: "tolerations", read: func(value *yaml.Node, path string) {
			if err := value.Decode(&s.Tolerations); err != nil {
				k.fail(path, "kadalu-shape", "the tolerations cannot be read", "a list of tolerations as in a Pod")
			}
		}},
	})
	k.required(n)
	k.sameNode()
}

// sameNode accepts several bricks of a set on one node: Kadalu's operator allowed that,
// so the pool may be in use.
func (k *converter) sameNode() {
	s := &k.pool.Spec
	if s.Type == schema.Replica2 {
		return // the check of the converted pool only warns
	}
	for _, set := range s.Sets() {
		nodes := map[string]bool{}
		for _, b := range set {
			if b.Node != "" && nodes[b.Node] && !s.AllowSameNode {
				s.AllowSameNode = true
				k.warn("spec.storage", "same-node",
					fmt.Sprintf("node %s has two bricks of one set: losing the node loses both", b.Node),
					"a different node for each brick of a set; the pool is converted with allowSameNode: true")
			}
			nodes[b.Node] = true
		}
	}
}

// required reports fields that the type requires and the document lacks.
func (k *converter) required(n *yaml.Node) {
	s := &k.pool.Spec
	if s.Type == schema.External {
		if s.External == nil && yamlnode.Field(n, "details") == nil {
			k.fail("spec", "field-missing", "details is missing",
				"details with gluster_host or gluster_hosts, and gluster_volname")
		}
		return
	}
	if len(s.Bricks) == 0 && yamlnode.Field(n, "storage") == nil {
		k.fail("spec", "field-missing", "storage is missing", "a list of "+brickShape)
	}
	if s.Type == schema.Disperse && s.Disperse == nil && yamlnode.Field(n, "disperse") == nil {
		k.fail("spec", "field-missing", "disperse is missing", "disperse with data and redundancy")
	}
	if s.VolumeID == "" && s.Type != "" {
		k.warn("spec", "kadalu-volume-id", "volume_id is missing, so a new volume ID is derived",
			"to adopt bricks that have data, set volume_id to the ID in Kadalu's ConfigMap kadalu-info")
	}
}

// poolType reads the type, whatever its case.
func (k *converter) poolType(n *yaml.Node) schema.Type {
	known := []schema.Type{
		schema.Replica1, schema.Replica2, schema.Replica3, schema.Arbiter, schema.Disperse, schema.External,
	}
	written := k.text(n, "spec.type")
	for _, t := range known {
		if string(t) == written {
			return t
		}
		if strings.EqualFold(string(t), written) {
			k.warn("spec.type", "kadalu-case", fmt.Sprintf("type %q is read as %s", written, t), "write "+string(t))
			return t
		}
	}
	k.fail("spec.type", "value", fmt.Sprintf("%q is not a pool type", written), poolTypes)
	return ""
}
