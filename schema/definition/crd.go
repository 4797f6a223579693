package definition

import (
	"fmt"

	"sigs.k8s.io/yaml"

	"github.com/atoll-storage/atoll/schema/shape"
)

// crdRules are what 'atoll vet' finds beyond single fields, as far as an API server can be
// told, and which changes of a pool that exists are refused (docs/decisions/0011).
var crdRules = shape.Rules{
	"spec": {
		{Rule: "!has(self.bricks) || (self.type == 'Replica2' ? size(self.bricks) % 2 == 0 : self.type in ['Replica3', 'Arbiter'] ? size(self.bricks) % 3 == 0 : true)", Message: "the number of bricks must be a multiple of the set's: 2 for Replica2, 3 for Replica3 and Arbiter"},
		{Rule: "!has(self.bricks) || !has(self.disperse) || size(self.bricks) % (self.disperse.data + self.disperse.redundancy) == 0", Message: "the number of bricks must be a multiple of data + redundancy"},
		{Rule: "!has(self.bricks) || self.bricks.exists(b, !has(b.decommissioned) || !b.decommissioned)", Message: "all bricks are decommissioned: the data has nowhere to go"},
		{Rule: "!has(self.volumes) || self.volumes.all(v, self.volumes.exists_one(w, w == v))", Message: "a layout is listed twice"},
		{Rule: "!has(self.volumes) || !('Single' in self.volumes) || size(self.volumes) == 1", Message: "Single makes the whole pool one volume, so there can be no other layout"},
		{Rule: "self.type != 'External' || !has(self.volumes) || !('Block' in self.volumes)", Message: "an External volume cannot serve Block: its bricks are not ours to fence with"},
		{Rule: "!has(self.storageClasses) || self.storageClasses.all(c, !has(c.layout) || (has(self.volumes) ? c.layout in self.volumes : c.layout == 'Subdirectory'))", Message: "a class has a layout that the pool does not serve"},
		{Rule: copyRule, Message: "the type cannot change but for one copy more in a pool of one set: Replica1 to Replica2 to Replica3, each with one brick more; else make a new pool and move the data"},
		{Rule: "has(self.disperse) == has(oldSelf.disperse) && (!has(self.disperse) || self.disperse == oldSelf.disperse)", Message: "disperse cannot change: what is written could not be read any more"},
		{Rule: "has(self.volumeID) == has(oldSelf.volumeID) && (!has(self.volumeID) || self.volumeID == oldSelf.volumeID)", Message: "volumeID cannot change: the bricks would refuse to start"},
		{Rule: "!has(self.external) || !has(oldSelf.external) || self.external.volume == oldSelf.external.volume", Message: "the volume cannot change: volumes that exist would be looked up where they are not"},
		{Rule: "!has(self.bricks) || !has(oldSelf.bricks) || size(self.bricks) >= oldSelf.bricks.filter(b, !has(b.decommissioned) || !b.decommissioned).size()", Message: "only bricks that are decommissioned, and empty, can be removed"},
	},
	"#Disperse": {{Rule: "self.redundancy < self.data", Message: "redundancy must be less than data"}},
	"#Toleration": {
		{Rule: "!has(self.operator) || self.operator != 'Exists' || !has(self.value)", Message: "operator Exists takes no value"},
		{Rule: "has(self.key) || has(self.operator) && self.operator == 'Exists'", Message: "a toleration without a key needs operator Exists"},
		{Rule: "!has(self.tolerationSeconds) || has(self.effect) && self.effect == 'NoExecute'", Message: "tolerationSeconds is for effect NoExecute alone"},
	},
}

// copyRule lets a pool of one set have one copy more.
const copyRule = "self.type == oldSelf.type || !has(oldSelf.tiebreaker) && has(self.bricks) && (" +
	"oldSelf.type == 'Replica1' && self.type == 'Replica2' && size(oldSelf.bricks) == 1 && size(self.bricks) == 2 || " +
	"oldSelf.type == 'Replica2' && self.type == 'Replica3' && size(oldSelf.bricks) == 2 && size(self.bricks) == 3)"

// CRD is the custom resource definition of StoragePool, in YAML.
func CRD() ([]byte, error) {
	return crd("atoll.storage", map[string]any{
		"kind": "StoragePool", "listKind": "StoragePoolList", "plural": "storagepools", "singular": "storagepool", "shortNames": []string{"pool"}, "categories": []string{"atoll"},
	}, ".spec.type", "# Made from schema/pool.cue by 'make generate'.\n", Pool().OpenAPI(crdRules, statusShape()))
}

// KadaluCRD is that of KadaluStorage, for clusters without Kadalu's operator. It takes every
// document that Kadalu takes; what is wrong with one is told of in its status.
func KadaluCRD() ([]byte, error) {
	whatever := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
	return crd(kadaluGroup, map[string]any{
		"kind": "KadaluStorage", "listKind": "KadaluStorageList", "plural": "kadalustorages", "singular": "kadalustorage", "shortNames": []string{"kds"}, "categories": []string{"atoll"},
	}, ".spec.type", "# Made by 'make generate'.\n", map[string]any{"type": "object", "properties": map[string]any{
		"spec": whatever, "status": statusShape(),
	}})
}

// kadaluGroup is the API group of KadaluStorage.
const kadaluGroup = "kadalu-operator.storage"

func crd(group string, names map[string]any, kind, head string, schema map[string]any) ([]byte, error) {
	column := func(name, path, is string) map[string]any {
		return map[string]any{"name": name, "type": is, "jsonPath": path}
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": fmt.Sprint(names["plural"], ".", group)},
		"spec": map[string]any{
			"group": group, "scope": "Namespaced", "names": names,
			"versions": []any{map[string]any{
				"name": "v1alpha1", "served": true, "storage": true,
				"subresources": map[string]any{"status": map[string]any{}},
				"additionalPrinterColumns": []any{
					column("Type", kind, "string"), column("Bricks", ".status.bricksOnline", "string"),
					column("To heal", ".status.backlog", "integer"), column("Volumes", ".status.volumes", "integer"),
					column("Age", ".metadata.creationTimestamp", "date"),
					column("Ready", `.status.conditions[?(@.type=="Ready")].status`, "string"), column("Status", `.status.conditions[?(@.type=="Ready")].message`, "string"),
				},
				"schema": map[string]any{"openAPIV3Schema": schema},
			}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("writing the custom resource definition: %w", err)
	}
	return append([]byte(head), text...), nil
}
