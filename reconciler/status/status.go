// Package status reads the status of pools, from custom resources and, in folder mode, from
// ConfigMaps.
package status

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/render"
)

// Pool is one pool with its status.
type Pool struct {
	Kind      string              `json:"kind"` // "Document" in folder mode
	Namespace string              `json:"namespace"`
	Name      string              `json:"name"`
	Type      string              `json:"type,omitempty"`
	Status    v1alpha1.PoolStatus `json:"status"`
}

// Connect returns a client with the types of pools in its scheme.
func Connect(config *rest.Config) (client.Client, error) {
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: s})
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w", err)
	}
	return c, nil
}

// List returns the pools of a namespace, "" for all, sorted by namespace and name.
func List(ctx context.Context, c client.Reader, namespace string) ([]Pool, error) {
	var all []Pool
	add := func(kind string, p *v1alpha1.Pool) {
		var spec struct{ Type string }
		_ = json.Unmarshal(p.Spec.Raw, &spec) // the status reports what is wrong with an invalid spec
		all = append(all, Pool{kind, p.Namespace, p.Name, spec.Type, p.Status})
	}
	var atoll v1alpha1.StoragePoolList
	var kadalu v1alpha1.KadaluStorageList
	var documents corev1.ConfigMapList
	in := client.InNamespace(namespace)
	for list, options := range map[client.ObjectList][]client.ListOption{
		&atoll: {in}, &kadalu: {in}, &documents: {in, client.MatchingLabels{v1alpha1.LabelStatus: "true"}},
	} {
		if err := c.List(ctx, list, options...); err != nil && !meta.IsNoMatchError(err) {
			return nil, fmt.Errorf("list pools: %w", err)
		}
	}
	for i := range atoll.Items {
		add("StoragePool", &atoll.Items[i].Pool)
	}
	for i := range kadalu.Items {
		add("KadaluStorage", &kadalu.Items[i].Pool)
	}
	for _, m := range documents.Items {
		p := Pool{Kind: "Document", Namespace: m.Namespace, Name: m.Labels[render.LabelPool]}
		if err := json.Unmarshal([]byte(m.Data[v1alpha1.StatusKey]), &p.Status); err != nil {
			return nil, fmt.Errorf("read ConfigMap %s/%s: %w", m.Namespace, m.Name, err)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Pool) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return all, nil
}
