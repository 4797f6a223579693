package apply

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kinds "k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/schema"
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
	u.SetGroupVersionKind(kinds.FromAPIVersionAndKind(r.APIVersion, r.Kind))
	u.SetNamespace(r.Namespace)
	u.SetName(r.Name)
	return u
}

// inventory lists the objects that were, or are about to be, applied for a pool. It is saved
// before anything is applied, so that every applied object is listed.
type inventory struct {
	client          client.Client
	namespace, pool string
}

// record is the content of an inventory.
type record struct {
	objects  []Reference
	document *schema.Pool // nil in inventories of versions that did not save it
	source   string       // where the document came from
}

// Keys of the data of an inventory's ConfigMap.
const (
	inventoryKey = "objects.json"
	documentKey  = "document.json"
)

// sourceAnnotation names where the document of an inventory came from.
const sourceAnnotation = "atoll.storage/source"

// InventoryName is the name of the ConfigMap that lists a pool's objects.
func InventoryName(pool string) string { return "atoll-" + pool + "-inventory" }

func (i inventory) key() client.ObjectKey {
	return client.ObjectKey{Namespace: i.namespace, Name: InventoryName(i.pool)}
}

// load reads the saved record. A missing inventory is empty.
func (i inventory) load(ctx context.Context) (record, error) {
	var m corev1.ConfigMap
	err := i.client.Get(ctx, i.key(), &m)
	if apierrors.IsNotFound(err) {
		return record{}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("read inventory of pool %s: %w", i.pool, err)
	}
	r, err := decode(m)
	if err != nil {
		return record{}, fmt.Errorf("read inventory of pool %s, ConfigMap %s: %w; "+
			"repair it, or delete it: objects that only it lists are then never pruned", i.pool, i.key(), err)
	}
	return r, nil
}

func decode(m corev1.ConfigMap) (r record, err error) {
	r.source = m.Annotations[sourceAnnotation]
	if err := json.Unmarshal([]byte(m.Data[inventoryKey]), &r.objects); err != nil {
		return r, err
	}
	if text := m.Data[documentKey]; text != "" {
		err = json.Unmarshal([]byte(text), &r.document)
	}
	return r, err
}

// save writes a record, unless it equals the saved one.
func (i inventory) save(ctx context.Context, before, now record) error {
	now.objects = slices.Clone(now.objects)
	slices.SortFunc(now.objects, compare)
	now.objects = slices.Compact(now.objects)
	if slices.Equal(before.objects, now.objects) && before.source == now.source &&
		reflect.DeepEqual(before.document, now.document) {
		return nil
	}
	text, err := json.MarshalIndent(now.objects, "", "  ")
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
	if now.source != "" {
		m.Annotations = map[string]string{sourceAnnotation: now.source}
	}
	if now.document != nil {
		document, err := json.MarshalIndent(now.document, "", "  ")
		if err != nil {
			return err
		}
		m.Data[documentKey] = string(document)
	}
	u, err := convert(m)
	if err != nil {
		return err
	}
	if err := serverSideApply(ctx, i.client, u); err != nil {
		return fmt.Errorf("save inventory of pool %s: %w", i.pool, err)
	}
	return nil
}

func compare(a, b Reference) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.APIVersion, b.APIVersion))
}
