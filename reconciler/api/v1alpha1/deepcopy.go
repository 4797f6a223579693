package v1alpha1

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// clone copies all that a pool has.
func (p *Pool) clone() Pool {
	c := *p
	p.ObjectMeta.DeepCopyInto(&c.ObjectMeta)
	p.Spec.DeepCopyInto(&c.Spec)
	c.Status.Conditions = slices.Clone(p.Status.Conditions)
	for i := range c.Status.Conditions {
		p.Status.Conditions[i].DeepCopyInto(&c.Status.Conditions[i])
	}
	c.Status.RollWaitsSince = p.Status.RollWaitsSince.DeepCopy()
	if p.Status.PromisedBytes != nil {
		promised := *p.Status.PromisedBytes
		c.Status.PromisedBytes = &promised
	}
	c.Status.Bricks = slices.Clone(p.Status.Bricks)
	return c
}

// DeepCopyObject copies it.
func (p *StoragePool) DeepCopyObject() runtime.Object { return &StoragePool{p.clone()} }

// DeepCopyObject copies it.
func (p *KadaluStorage) DeepCopyObject() runtime.Object { return &KadaluStorage{p.clone()} }

func (l *List) clone() List {
	c := List{TypeMeta: l.TypeMeta}
	l.ListMeta.DeepCopyInto(&c.ListMeta)
	return c
}

// DeepCopyObject copies it.
func (l *StoragePoolList) DeepCopyObject() runtime.Object {
	c := &StoragePoolList{List: l.clone()}
	for i := range l.Items {
		c.Items = append(c.Items, StoragePool{l.Items[i].clone()})
	}
	return c
}

// DeepCopyObject copies it.
func (l *KadaluStorageList) DeepCopyObject() runtime.Object {
	c := &KadaluStorageList{List: l.clone()}
	for i := range l.Items {
		c.Items = append(c.Items, KadaluStorage{l.Items[i].clone()})
	}
	return c
}

var _ = []Object{&StoragePool{}, &KadaluStorage{}}

var _ = metav1.Object(&Pool{})
