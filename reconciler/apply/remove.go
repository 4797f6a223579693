package apply

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// PoolField is an index of persistent volumes by their pools, where a cache has it.
const PoolField = "atoll.storage/pool"

// Volumes counts the persistent volumes of a pool, by their handles. A reader that has the
// index can be told to use it, so that it does not look at all volumes of the cluster.
func Volumes(ctx context.Context, c client.Reader, pool string, index ...client.ListOption) (int, error) {
	var all corev1.PersistentVolumeList
	if err := c.List(ctx, &all, index...); err != nil {
		return 0, fmt.Errorf("counting the volumes of pool %s: %w", pool, err)
	}
	n := 0
	for _, v := range all.Items {
		if PoolOf(&v) == pool {
			n++
		}
	}
	return n, nil
}

// PoolOf is the pool of a persistent volume, "" when it is none of ours.
func PoolOf(v *corev1.PersistentVolume) string {
	if v.Spec.CSI == nil || v.Spec.CSI.Driver != schema.DriverName {
		return ""
	}
	id, err := volumeid.Parse(v.Spec.CSI.VolumeHandle)
	if err != nil {
		return ""
	}
	return id.Pool
}

// Applied lists the documents that were applied last to a namespace, "" for all, and came
// from a source, "" for any, by the inventories there.
func (a *Applier) Applied(ctx context.Context, namespace, source string) ([]*schema.Pool, error) {
	var all corev1.ConfigMapList
	if err := a.client.List(ctx, &all, client.InNamespace(namespace), client.MatchingLabels{LabelInventory: "true"}); err != nil {
		return nil, fmt.Errorf("listing what was applied: %w", err)
	}
	var documents []*schema.Pool
	for _, m := range all.Items {
		r, err := decode(m)
		if err != nil || r.document == nil || source != "" && r.source != source {
			continue // Apply says so
		}
		r.document.Metadata.Namespace = m.Namespace
		documents = append(documents, r.document)
	}
	return documents, nil
}

// Remove takes away all objects of a pool but claims, which have bricks' data. It asks
// nobody: whether volumes are there is the caller's to know. It can be repeated.
func (a *Applier) Remove(ctx context.Context, namespace, pool string) (Result, error) {
	r := Result{Pool: pool, Namespace: namespace}
	p := Pool{Namespace: namespace, Name: pool, leaves: true}
	was, err := a.inventory(p).load(ctx)
	if err != nil {
		return r, err
	}
	all, err := a.findStale(ctx, p, was.objects, nil)
	if err != nil {
		return r, err
	}
	slices.SortStableFunc(all, func(x, y Change) int { return order(x.Kind) - order(y.Kind) })
	for _, c := range all {
		if c.Action == Deleted {
			if err := client.IgnoreNotFound(a.client.Delete(ctx, c.object(), client.PropagationPolicy(metav1.DeletePropagationBackground))); err != nil {
				return r, fmt.Errorf("deleting %s of pool %s: %w", c.Reference, pool, err)
			}
		}
		r.Changes = append(r.Changes, c)
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: InventoryName(pool)}}
	if err := client.IgnoreNotFound(a.client.Delete(ctx, m)); err != nil {
		return r, fmt.Errorf("deleting the inventory of pool %s: %w", pool, err)
	}
	return r, nil
}

// order is that in which kinds go: first what makes new volumes, last what pods read.
func order(kind string) int {
	kinds := []string{"StorageClass", "Deployment", "StatefulSet", "PodDisruptionBudget", "Service"}
	if i := slices.Index(kinds, kind); i >= 0 {
		return i
	}
	return len(kinds)
}
