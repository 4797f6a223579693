package pools

import (
	"context"
	"fmt"

	"github.com/fluxcd/pkg/runtime/predicates"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/apply"
	"github.com/atoll-storage/atoll/render"
)

// OwnedKinds are the kinds of the objects that a pool is rendered to.
var OwnedKinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "Service"},
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"},
}

// CacheOptions limit the cache to objects of pools.
func CacheOptions() (cache.Options, error) {
	labelled, err := labels.NewRequirement(render.LabelPool, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, err
	}
	noCopy := true // cached objects are never modified
	ofPools := cache.ByObject{Label: labels.NewSelector().Add(*labelled), UnsafeDisableDeepCopy: &noCopy}
	statusOnly := ofPools
	statusOnly.Transform = func(o any) (any, error) {
		if set, ok := o.(*appsv1.StatefulSet); ok {
			set.ManagedFields, set.Spec.Template = nil, corev1.PodTemplateSpec{} // only its status is read
		}
		return o, nil
	}
	byObject := map[client.Object]cache.ByObject{
		&corev1.Pod{}:              ofPools,
		&appsv1.StatefulSet{}:      statusOnly,
		&corev1.PersistentVolume{}: {UnsafeDisableDeepCopy: &noCopy},
	}
	for _, kind := range OwnedKinds {
		byObject[partialMetadata(kind)] = ofPools
	}
	return cache.Options{ByObject: byObject, DefaultTransform: cache.TransformStripManagedFields()}, nil
}

func partialMetadata(kind schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(kind)
	return m
}

// IndexVolumes adds the index apply.PoolField to a manager's cache.
func IndexVolumes(ctx context.Context, m ctrl.Manager) error {
	return m.GetFieldIndexer().IndexField(ctx, &corev1.PersistentVolume{}, apply.PoolField,
		func(o client.Object) []string {
			if v, ok := o.(*corev1.PersistentVolume); ok && apply.PoolOf(v) != "" {
				return []string{apply.PoolOf(v)}
			}
			return nil
		})
}

// SetupWithManager registers the reconciler. It runs when a pool, one of its objects, its pods or
// its volumes change.
func (r *Reconciler) SetupWithManager(m ctrl.Manager, workers int,
	limiter workqueue.TypedRateLimiter[reconcile.Request],
) error {
	kinds, _, err := m.GetScheme().ObjectKinds(r.New())
	if err != nil {
		return err
	}
	changed := predicate.Or[client.Object](predicate.GenerationChangedPredicate{},
		predicate.AnnotationChangedPredicate{}, predicates.ReconcileRequestedPredicate{})
	b := ctrl.NewControllerManagedBy(m).Named(fmt.Sprintf("%s.%s", kinds[0].Kind, kinds[0].Group)).
		For(r.New().(client.Object), builder.WithPredicates(changed)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: limiter})
	for _, kind := range OwnedKinds {
		b = b.WatchesMetadata(partialMetadata(kind), handler.EnqueueRequestsFromMapFunc(poolOfObject))
	}
	b = b.Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(poolOfObject))
	b = b.Watches(&corev1.PersistentVolume{}, handler.EnqueueRequestsFromMapFunc(r.poolsOfVolume),
		builder.WithPredicates(predicate.Funcs{}))
	return b.Complete(r)
}

// poolOfObject returns the pool of an object, by its labels.
func poolOfObject(_ context.Context, o client.Object) []reconcile.Request {
	pool, namespace := o.GetLabels()[render.LabelPool], o.GetNamespace()
	if namespace == "" {
		namespace = o.GetLabels()[render.LabelNamespace]
	}
	if pool == "" || namespace == "" || o.GetLabels()[apply.LabelInventory] != "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: pool}}}
}

// poolsOfVolume returns the pools with the name in a volume's handle, of all namespaces.
func (r *Reconciler) poolsOfVolume(ctx context.Context, o client.Object) []reconcile.Request {
	v, ok := o.(*corev1.PersistentVolume)
	if !ok || apply.PoolOf(v) == "" {
		return nil
	}
	var all []reconcile.Request
	add := func(p *v1alpha1.Pool) {
		if p.Name == apply.PoolOf(v) {
			all = append(all,
				reconcile.Request{NamespacedName: types.NamespacedName{Namespace: p.Namespace, Name: p.Name}})
		}
	}
	if _, kadalu := r.New().(*v1alpha1.KadaluStorage); kadalu {
		var list v1alpha1.KadaluStorageList
		_ = r.List(ctx, &list) // a pool that is missed is reconciled at its next interval
		for i := range list.Items {
			add(&list.Items[i].Pool)
		}
		return all
	}
	var list v1alpha1.StoragePoolList
	_ = r.List(ctx, &list)
	for i := range list.Items {
		add(&list.Items[i].Pool)
	}
	return all
}
