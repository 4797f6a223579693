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

// Owned are the kinds that a pool is rendered to.
var Owned = []schema.GroupVersionKind{
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "Service"},
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"},
}

// CacheOptions have only what is a pool's in memory.
func CacheOptions() (cache.Options, error) {
	of, err := labels.NewRequirement(render.LabelPool, selection.Exists, nil)
	if err != nil {
		return cache.Options{}, err
	}
	shared := true // nobody changes what is read
	ours := cache.ByObject{Label: labels.NewSelector().Add(*of), UnsafeDisableDeepCopy: &shared}
	lean := ours
	lean.Transform = func(o any) (any, error) {
		if set, is := o.(*appsv1.StatefulSet); is {
			set.ManagedFields, set.Spec.Template = nil, corev1.PodTemplateSpec{} // only its status is read
		}
		return o, nil
	}
	by := map[client.Object]cache.ByObject{&corev1.Pod{}: ours, &appsv1.StatefulSet{}: lean, &corev1.PersistentVolume{}: {UnsafeDisableDeepCopy: &shared}}
	for _, kind := range Owned {
		by[metadata(kind)] = ours
	}
	return cache.Options{ByObject: by, DefaultTransform: cache.TransformStripManagedFields()}, nil
}

func metadata(kind schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(kind)
	return m
}

// Index has a manager's cache know volumes by their pools.
func Index(ctx context.Context, m ctrl.Manager) error {
	return m.GetFieldIndexer().IndexField(ctx, &corev1.PersistentVolume{}, apply.PoolField, func(o client.Object) []string {
		if v, is := o.(*corev1.PersistentVolume); is && apply.PoolOf(v) != "" {
			return []string{apply.PoolOf(v)}
		}
		return nil
	})
}

// SetUp has a manager run the reconciler, whenever a pool, one of its objects, its pods or
// its volumes change.
func (r *Reconciler) SetUp(m ctrl.Manager, workers int, limiter workqueue.TypedRateLimiter[reconcile.Request]) error {
	of, _, err := m.GetScheme().ObjectKinds(r.New())
	if err != nil {
		return err
	}
	changed := predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}, predicates.ReconcileRequestedPredicate{})
	b := ctrl.NewControllerManagedBy(m).Named(fmt.Sprintf("%s.%s", of[0].Kind, of[0].Group)).
		For(r.New().(client.Object), builder.WithPredicates(changed)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: limiter})
	for _, kind := range Owned {
		b = b.WatchesMetadata(metadata(kind), handler.EnqueueRequestsFromMapFunc(owner))
	}
	b = b.Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(owner))
	b = b.Watches(&corev1.PersistentVolume{}, handler.EnqueueRequestsFromMapFunc(r.ofVolume), builder.WithPredicates(predicate.Funcs{}))
	return b.Complete(r)
}

// owner is the pool of an object, by its labels.
func owner(_ context.Context, o client.Object) []reconcile.Request {
	pool, namespace := o.GetLabels()[render.LabelPool], o.GetNamespace()
	if namespace == "" {
		namespace = o.GetLabels()[render.LabelNamespace]
	}
	if pool == "" || namespace == "" || o.GetLabels()[apply.LabelInventory] != "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: namespace, Name: pool}}}
}

// ofVolume finds the pools that have the name that a volume names.
func (r *Reconciler) ofVolume(ctx context.Context, o client.Object) []reconcile.Request {
	v, is := o.(*corev1.PersistentVolume)
	if !is || apply.PoolOf(v) == "" {
		return nil
	}
	var all []reconcile.Request
	add := func(p *v1alpha1.Pool) {
		if p.Name == apply.PoolOf(v) {
			all = append(all, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: p.Namespace, Name: p.Name}})
		}
	}
	if _, kadalu := r.New().(*v1alpha1.KadaluStorage); kadalu {
		var list v1alpha1.KadaluStorageList
		_ = r.List(ctx, &list) // a pool that is not found now has its turn later
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
