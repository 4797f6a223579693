package schema

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// DriverName is the CSI driver's name and so the provisioner of its classes.
const DriverName = "csi.atoll.storage"

// Provisioners of the projects before, whose classes convert.
const (
	kadaluProvisioner       = "kadalu"
	glusterBlockProvisioner = "gluster.org/glusterblock"
)

// Parameters of a StorageClass that tell the driver where its volumes go.
const (
	ParameterPool         = "pool"         // names of pools, separated by commas
	ParameterPoolSelector = "poolSelector" // labels of pools, and type=…
	ParameterLayout       = "layout"       // Subdirectory, Block or Single
	ParameterReclaim      = "reclaim"      // Delete, Archive or Retain; Kubernetes has no word for Archive
)

// AnnotationDefaultClass makes a class the cluster's default.
const AnnotationDefaultClass = "storageclass.kubernetes.io/is-default-class"

// ClassDocument is a StorageClass that stands beside the pools.
type ClassDocument struct {
	Name        string
	Provisioner string
	Default     bool
	Source      Position
	Scope       string
	// Converted is the class for Atoll's driver, nil unless the document is for
	// a provisioner of the projects before.
	Converted *ConvertedClass

	places *place
}

// ConvertedClass is a storage.k8s.io/v1 StorageClass.
type ConvertedClass struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`

	Provisioner          string            `json:"provisioner"`
	Parameters           map[string]string `json:"parameters,omitempty"`
	ReclaimPolicy        string            `json:"reclaimPolicy,omitempty"`
	VolumeBindingMode    string            `json:"volumeBindingMode,omitempty"`
	AllowVolumeExpansion bool              `json:"allowVolumeExpansion"`
	MountOptions         []string          `json:"mountOptions,omitempty"`
}

// class takes a StorageClass document.
func (l *loader) class(root *yaml.Node, from origin) {
	c := &ClassDocument{
		Name: scalar(field(root, "metadata"), "name"), Provisioner: scalar(root, "provisioner"),
		Scope: from.scope, places: from.of(root),
	}
	c.Source = c.places.at("")
	c.Default = scalar(field(field(root, "metadata"), "annotations"), AnnotationDefaultClass) == "true"
	l.result.Classes = append(l.result.Classes, c)
	if !Converts(c.Provisioner) {
		return
	}
	k := &kadalu{at: c.places.at, pool: &Pool{}}
	c.Converted = k.class(root, c.Provisioner)
	for _, d := range k.diagnostics {
		l.report(finding{Diagnostic: d})
	}
}

// Converts reports whether classes of a provisioner convert to ours.
func Converts(provisioner string) bool {
	return provisioner == kadaluProvisioner || provisioner == glusterBlockProvisioner
}

// class converts the class of a former provisioner; what has no meaning any more
// is named in a warning.
func (k *kadalu) class(root *yaml.Node, provisioner string) *ConvertedClass {
	metadata := field(root, "metadata")
	c := &ConvertedClass{
		APIVersion: "storage.k8s.io/v1", Kind: "StorageClass",
		Metadata: Metadata{
			Name: scalar(metadata, "name"), Labels: k.texts(field(metadata, "labels"), "metadata.labels"),
			Annotations: k.texts(field(metadata, "annotations"), "metadata.annotations"),
		},
		Provisioner:   DriverName,
		Parameters:    map[string]string{},
		ReclaimPolicy: scalar(root, "reclaimPolicy"), VolumeBindingMode: scalar(root, "volumeBindingMode"),
		AllowVolumeExpansion: true,
	}
	delete(c.Metadata.Annotations, "kubectl.kubernetes.io/last-applied-configuration")
	if list := field(root, "mountOptions"); list != nil {
		for i, item := range list.Content {
			c.MountOptions = append(c.MountOptions, k.text(item, fmt.Sprintf("mountOptions[%d]", i)))
		}
	}
	if parameters := field(root, "parameters"); parameters != nil && parameters.Kind == yaml.MappingNode {
		for key, value := range pairs(parameters) {
			k.classParameter(c, key.Value, k.text(value, "parameters."+key.Value))
		}
	}
	if provisioner == glusterBlockProvisioner {
		c.Parameters[ParameterLayout] = string(Block)
		c.Parameters[ParameterPoolSelector] = "type=" + string(Replica3)
		k.warn("provisioner", "class-converted",
			"gluster-block made volumes on any three-way replicated volume; the class now takes any pool of type Replica3 that serves Block",
			"name pools in the parameter pool to narrow it down")
	} else if c.Parameters[ParameterPool] == "" && c.Parameters[ParameterPoolSelector] == "" {
		k.fail("parameters", "class-pool", "the class names no pool", "storage_name: the name of a pool")
	}
	return c
}

func (k *kadalu) classParameter(c *ConvertedClass, name, value string) {
	path := "parameters." + name
	switch fold(name) {
	case "storagename":
		c.Parameters[ParameterPool] = value
	case "storagetype", "hostvoltype":
		if !slices.Contains(poolShape().Values, value) {
			k.fail(path, "value", fmt.Sprintf("%q is not a pool type", value), "Replica1, Replica2, Replica3, Arbiter, Disperse or External")
			return
		}
		c.Parameters[ParameterPoolSelector] = "type=" + value
	case "pvtype":
		if !strings.EqualFold(value, string(Block)) {
			k.warn(path, "class-parameter", fmt.Sprintf("%q is not a kind of volume that is known; the parameter is left out", value), string(Block))
			return
		}
		c.Parameters[ParameterLayout] = string(Block)
	case "singlepvperpool", "glusterhosts", "glusterhost", "glustervolname", "glusteroptions":
		k.warn(path, "class-parameter", "how a pool is reached, and what it serves, is said by its document alone; the parameter is left out", "spec.external and spec.volumes of the pool")
	case "nodeaffinity":
		k.warn(path, "class-parameter", "every node reaches every pool; the parameter is left out", "")
	case "pvreclaimpolicy":
		k.warn(path, "class-parameter", "what becomes of the data is said by the pool; the parameter is left out", "spec.reclaim of the pool")
	case "resturl", "restuser", "restuserkey", "secretnamespace", "secretname", "clusterid", "restauthenabled":
		k.warn(path, "class-parameter", "there is no heketi to reach any more; the parameter is left out", "")
	case "hacount", "chapauthenabled":
		k.warn(path, "class-parameter", "there is no iSCSI path any more, the client replicates; the parameter is left out", "")
	case "volumenameprefix":
		k.warn(path, "class-parameter", "volumes are named by the cluster; the parameter is left out", "")
	default:
		k.warn(path, "class-parameter", fmt.Sprintf("the parameter %q is not known and is left out", name), "storage_name, storage_type")
	}
}
