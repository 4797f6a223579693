package convert

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/definition"
	"github.com/atoll-storage/atoll/schema/yamlnode"
)

// Provisioners that Atoll replaces, whose classes convert.
const (
	kadaluProvisioner       = "kadalu"
	glusterBlockProvisioner = "gluster.org/glusterblock"
)

// Converts reports whether StorageClass converts the classes of a provisioner.
func Converts(provisioner string) bool {
	return provisioner == kadaluProvisioner || provisioner == glusterBlockProvisioner
}

// StorageClass converts the class of a provisioner for which Converts returns true. A
// parameter that has no meaning for Atoll's driver is dropped with a warning. position
// returns the position of a path of the document.
func StorageClass(
	root *yaml.Node, position func(path string) schema.Position,
) (*schema.ConvertedClass, []schema.Diagnostic) {
	k := &converter{position: position}
	metadata := yamlnode.Field(root, "metadata")
	c := &schema.ConvertedClass{
		APIVersion: "storage.k8s.io/v1", Kind: "StorageClass",
		Metadata: schema.Metadata{
			Name:        yamlnode.Scalar(metadata, "name"),
			Labels:      k.texts(yamlnode.Field(metadata, "labels"), "metadata.labels"),
			Annotations: k.texts(yamlnode.Field(metadata, "annotations"), "metadata.annotations"),
		},
		Provisioner:          schema.DriverName,
		Parameters:           map[string]string{},
		ReclaimPolicy:        yamlnode.Scalar(root, "reclaimPolicy"),
		VolumeBindingMode:    yamlnode.Scalar(root, "volumeBindingMode"),
		AllowVolumeExpansion: true,
	}
	delete(c.Metadata.Annotations, lastApplied)
	if list := yamlnode.Field(root, "mountOptions"); list != nil {
		for i, item := range list.Content {
			c.MountOptions = append(c.MountOptions, k.text(item, fmt.Sprintf("mountOptions[%d]", i)))
		}
	}
	if parameters := yamlnode.Field(root, "parameters"); parameters != nil && parameters.Kind == yaml.MappingNode {
		for key, value := range yamlnode.Pairs(parameters) {
			k.classParameter(c, key.Value, k.text(value, "parameters."+key.Value))
		}
	}
	k.classPool(c, yamlnode.Scalar(root, "provisioner"))
	return c, k.diagnostics
}

// classPool checks that the class selects a pool. Classes of gluster-block select by type.
func (k *converter) classPool(c *schema.ConvertedClass, provisioner string) {
	if provisioner == glusterBlockProvisioner {
		c.Parameters[schema.ParameterLayout] = string(schema.Block)
		c.Parameters[schema.ParameterPoolSelector] = "type=" + string(schema.Replica3)
		k.warn("provisioner", "class-converted",
			"gluster-block created volumes on any three-way replicated volume; "+
				"the class now selects any pool of type Replica3 that serves Block",
			"list pools in the parameter pool to select fewer")
		return
	}
	if c.Parameters[schema.ParameterPool] == "" && c.Parameters[schema.ParameterPoolSelector] == "" {
		k.fail("parameters", "class-pool", "the class names no pool", "storage_name: the name of a pool")
	}
}

func (k *converter) classParameter(c *schema.ConvertedClass, name, value string) {
	path := "parameters." + name
	switch fold(name) {
	case "storagename":
		c.Parameters[schema.ParameterPool] = value
	case "storagetype", "hostvoltype":
		if !slices.Contains(definition.Pool().Values, value) {
			k.fail(path, "value", fmt.Sprintf("%q is not a pool type", value), poolTypes)
			return
		}
		c.Parameters[schema.ParameterPoolSelector] = "type=" + value
	case "pvtype":
		if !strings.EqualFold(value, string(schema.Block)) {
			k.warn(path, "class-parameter", fmt.Sprintf("unknown kind of volume %q; the parameter is ignored", value),
				string(schema.Block))
			return
		}
		c.Parameters[schema.ParameterLayout] = string(schema.Block)
	case "singlepvperpool", "glusterhosts", "glusterhost", "glustervolname", "glusteroptions":
		k.warn(path, "class-parameter",
			"the pool document alone sets how the pool is reached and what it serves; the parameter is ignored",
			"spec.external and spec.volumes of the pool")
	case "nodeaffinity":
		k.warn(path, "class-parameter", "every node reaches every pool; the parameter is ignored", "")
	case "pvreclaimpolicy":
		k.warn(path, "class-parameter", "the pool document sets the reclaim policy; the parameter is ignored",
			"spec.reclaim of the pool")
	case "resturl", "restuser", "restuserkey", "secretnamespace", "secretname", "clusterid", "restauthenabled":
		k.warn(path, "class-parameter", "Atoll does not use heketi; the parameter is ignored", "")
	case "hacount", "chapauthenabled":
		k.warn(path, "class-parameter", "Atoll does not use iSCSI, the client replicates; the parameter is ignored", "")
	case "volumenameprefix":
		k.warn(path, "class-parameter", "the provisioner names the volumes; the parameter is ignored", "")
	default:
		k.warn(path, "class-parameter", fmt.Sprintf("unknown parameter %q is ignored", name),
			"storage_name, storage_type")
	}
}
