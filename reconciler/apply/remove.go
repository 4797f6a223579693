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

// PoolField names the index of PersistentVolumes by pool, in caches that have it.
const PoolField = "atoll.storage/pool"

// CountVolumes counts the PersistentVolumes of a pool, by their handles. With the list option of
// an index, a cache does not have to go through all volumes of the cluster.
func CountVolumes(ctx context.Context, c client.Reader, pool string, index ...client.ListOption) (int, error) {
	var all corev1.PersistentVolumeList
	if err := c.List(ctx, &all, index...); err != nil {
		return 0, fmt.Errorf("count volumes of pool %s: %w", pool, err)
	}
	n := 0
	for _, v := range all.Items {
		if PoolOf(&v) == pool {
			n++
		}
	}
	return n, nil
}

// PoolOf returns the pool of a PersistentVolume, "" for volumes of other drivers.
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

// AppliedDocuments lists the documents last applied, by the inventories of a namespace ("" for
// all namespaces), limited to those from one source ("" for any).
func (a *Applier) AppliedDocuments(ctx context.Context, namespace, source string) ([]*schema.Pool, error) {
	var all corev1.ConfigMapList
	inventories := client.MatchingLabels{LabelInventory: "true"}
	if err := a.client.List(ctx, &all, client.InNamespace(namespace), inventories); err != nil {
		return nil, fmt.Errorf("list inventories: %w", err)
	}
	var documents []*schema.Pool
	for _, m := range all.Items {
		r, err := decode(m)
		if err != nil || r.document == nil || source != "" && r.source != source {
			continue // Apply reports an inventory that cannot be read
		}
		r.document.Metadata.Namespace = m.Namespace
		documents = append(documents, r.document)
	}
	return documents, nil
}

// Remove deletes all objects of a pool except claims, which have the data of bricks. It does
// not check for volumes: the caller must. It is idempotent.
func (a *Applier) Remove(ctx context.Context, namespace, pool string) (Result, error) {
	r := Result{Pool: pool, Namespace: namespace}
	p := Pool{Namespace: namespace, Name: pool, removing: true}
	last, err := a.inventory(p).load(ctx)
	if err != nil {
		return r, err
	}
	all, err := a.findStale(ctx, p, last.objects, nil)
	if err != nil {
		return r, err
	}
	slices.SortStableFunc(all, func(x, y Change) int { return removalOrder(x.Kind) - removalOrder(y.Kind) })
	for _, c := range all {
		if c.Action == Deleted {
			err := a.client.Delete(ctx, c.object(), client.PropagationPolicy(metav1.DeletePropagationBackground))
			if client.IgnoreNotFound(err) != nil {
				return r, fmt.Errorf("delete %s of pool %s: %w", c.Reference, pool, err)
			}
		}
		r.Changes = append(r.Changes, c)
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: InventoryName(pool)}}
	if err := client.IgnoreNotFound(a.client.Delete(ctx, m)); err != nil {
		return r, fmt.Errorf("delete inventory of pool %s: %w", pool, err)
	}
	return r, nil
}

// removalOrder ranks a kind: first those that provision new volumes, last those that pods read.
func removalOrder(kind string) int {
	kinds := []string{"StorageClass", "Deployment", "StatefulSet", "PodDisruptionBudget", "Service"}
	if i := slices.Index(kinds, kind); i >= 0 {
		return i
	}
	return len(kinds)
}
