package apply

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
)

// Reference names an object of a cluster.
type Reference struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

func (r Reference) String() string { return r.Kind + " " + r.Name }

func referenceTo(u *unstructured.Unstructured) Reference {
	return Reference{u.GetAPIVersion(), u.GetKind(), u.GetNamespace(), u.GetName()}
}

func (r Reference) object() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.FromAPIVersionAndKind(r.APIVersion, r.Kind))
	u.SetNamespace(r.Namespace)
	u.SetName(r.Name)
	return u
}

// inventory is what was, or is about to be, applied for a pool. It is saved before
// anything is applied, so that nothing is ever forgotten.
type inventory struct {
	client          client.Client
	namespace, pool string
}

// inventoryKey is the key of the list in the ConfigMap's data.
const inventoryKey = "objects.json"

func (i inventory) key() client.ObjectKey {
	return client.ObjectKey{Namespace: i.namespace, Name: "atoll-" + i.pool + "-inventory"}
}

// load reads the list; an inventory that is not there has none.
func (i inventory) load(ctx context.Context) ([]Reference, error) {
	var m corev1.ConfigMap
	err := i.client.Get(ctx, i.key(), &m)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the inventory of pool %s: %w", i.pool, err)
	}
	var all []Reference
	if err := json.Unmarshal([]byte(m.Data[inventoryKey]), &all); err != nil {
		return nil, fmt.Errorf("reading the inventory of pool %s, ConfigMap %s: %w; nothing is applied before it is whole again, or deleted: then nothing is ever pruned that it had", i.pool, i.key(), err)
	}
	return all, nil
}

// save writes the list, unless it is what is there.
func (i inventory) save(ctx context.Context, before, all []Reference) error {
	all = slices.Clone(all)
	slices.SortFunc(all, compare)
	all = slices.Compact(all)
	if slices.Equal(before, all) {
		return nil
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	m := &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{
			Name: i.key().Name, Namespace: i.namespace,
			Labels: map[string]string{render.LabelPool: i.pool, LabelInventory: "true"},
		},
		Data: map[string]string{inventoryKey: string(text)},
	}
	u, err := convert(m)
	if err != nil {
		return err
	}
	if err := i.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.ForceOwnership, client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("saving the inventory of pool %s: %w", i.pool, err)
	}
	return nil
}

func compare(a, b Reference) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.APIVersion, b.APIVersion))
}
