package render

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/schema"
)

// storageClasses adds the classes that every pool has, and those of the document.
func (b *builder) storageClasses() error {
	s := &b.pool.Spec
	for _, name := range schema.BuiltinClasses(b.pool) {
		layout := s.Layouts()[0]
		switch {
		case name == "atoll."+b.name+".block":
			layout = schema.Block
		case layout == schema.Block && s.Serves(schema.Subdirectory):
			layout = schema.Subdirectory
		}
		b.class(schema.StorageClass{Name: name, Layout: layout})
	}
	for _, c := range s.StorageClasses {
		b.class(c)
	}
	return nil
}

// Class returns the object of a class converted from another provisioner's.
func Class(c *schema.ConvertedClass) Object {
	policy := corev1.PersistentVolumeReclaimPolicy(cmp.Or(c.ReclaimPolicy,
		string(corev1.PersistentVolumeReclaimDelete)))
	mode := storagev1.VolumeBindingMode(cmp.Or(c.VolumeBindingMode, string(storagev1.VolumeBindingImmediate)))
	return &storagev1.StorageClass{
		TypeMeta: metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "StorageClass"},
		ObjectMeta: metav1.ObjectMeta{
			Name: c.Metadata.Name, Labels: c.Metadata.Labels, Annotations: c.Metadata.Annotations,
		},
		Provisioner: c.Provisioner, Parameters: c.Parameters, ReclaimPolicy: &policy,
		VolumeBindingMode: &mode, AllowVolumeExpansion: &c.AllowVolumeExpansion, MountOptions: c.MountOptions,
	}
}

// class adds one class. It does not say how to reach the pool: the driver reads that from
// the catalog.
func (b *builder) class(c schema.StorageClass) {
	s := &b.pool.Spec
	layout := cmp.Or(c.Layout, s.Layouts()[0])
	reclaim := cmp.Or(c.Reclaim, reclaim(s))
	parameters := map[string]string{schema.ParameterPool: b.name, schema.ParameterLayout: string(layout)}
	if layout == schema.Block {
		parameters["csi.storage.k8s.io/fstype"] = "xfs"
	}
	if c.Recovery != "" {
		parameters[schema.ParameterRecovery] = string(c.Recovery)
	}
	for name, value := range c.Parameters {
		parameters[name] = value
	}
	policy := corev1.PersistentVolumeReclaimDelete
	switch reclaim {
	case schema.ReclaimRetain:
		policy = corev1.PersistentVolumeReclaimRetain
	case schema.ReclaimArchive:
		parameters[schema.ParameterReclaim] = string(schema.ReclaimArchive)
	}
	mode := storagev1.VolumeBindingMode(cmp.Or(c.BindingMode, string(storagev1.VolumeBindingImmediate)))
	expand := layout != schema.Single // the whole pool has one size
	class := &storagev1.StorageClass{
		TypeMeta:    metav1.TypeMeta{APIVersion: "storage.k8s.io/v1", Kind: "StorageClass"},
		ObjectMeta:  metav1.ObjectMeta{Name: c.Name, Labels: b.labels(LabelNamespace, b.namespace)},
		Provisioner: schema.DriverName, Parameters: parameters, ReclaimPolicy: &policy,
		VolumeBindingMode: &mode, AllowVolumeExpansion: &expand, MountOptions: slices.Clone(c.MountOptions),
	}
	if c.Default {
		class.Annotations = map[string]string{schema.AnnotationDefaultClass: "true"}
	}
	b.add(class)
}
