package pools

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/conditions"
)

// conflicts is the backoff for retries after another client changed the conditions.
var conflicts = wait.Backoff{Steps: 5, Duration: 100 * time.Millisecond, Jitter: 1}

// patcher writes the changes of a run to a resource. It replaces fluxcd/pkg/runtime/patch, which
// links gomega into the program.
type patcher struct {
	client client.Client
	before v1alpha1.Object
}

func newPatcher(c client.Client, o v1alpha1.Object) patcher { return patcher{c, copied(o)} }

func copied(o v1alpha1.Object) v1alpha1.Object { return o.DeepCopyObject().(v1alpha1.Object) }

// patch writes conditions, metadata and status. It ignores a resource that has been deleted.
func (p patcher) patch(ctx context.Context, o v1alpha1.Object) error {
	// Conditions come first: only their patch requires the resource version that was read.
	var errs []error
	for _, write := range []func(context.Context, v1alpha1.Object) error{p.conditions, p.metadata, p.status} {
		errs = append(errs, client.IgnoreNotFound(write(ctx, o)))
	}
	return errors.Join(errs...)
}

// finalizers writes the finalizers at once, so that no deletion can come between the objects of a pool
// and the finalizer that stands for them.
func (p patcher) finalizers(ctx context.Context, o v1alpha1.Object) error {
	if slices.Equal(p.before.GetFinalizers(), o.GetFinalizers()) {
		return nil
	}
	after := copied(p.before)
	after.SetFinalizers(o.GetFinalizers())
	patch := client.MergeFromWithOptions(copied(p.before), client.MergeFromWithOptimisticLock{})
	if err := p.client.Patch(ctx, after, patch, client.FieldOwner(fieldManager)); err != nil {
		return fmt.Errorf("write the finalizer: %w", err)
	}
	p.before.SetFinalizers(o.GetFinalizers())
	return nil
}

// conditions writes the owned conditions, and leaves other conditions unchanged.
func (p patcher) conditions(ctx context.Context, o v1alpha1.Object) error {
	if equality.Semantic.DeepEqual(p.before.GetConditions(), o.GetConditions()) {
		return nil
	}
	return retry.RetryOnConflict(conflicts, func() error {
		latest := copied(p.before)
		if err := p.client.Get(ctx, client.ObjectKeyFromObject(o), latest); err != nil {
			return err
		}
		base := copied(latest)
		for _, kind := range ownedConditions {
			if c := conditions.Get(o, kind); c != nil {
				conditions.Set(latest, c)
			} else {
				conditions.Delete(latest, kind)
			}
		}
		return p.client.Status().Patch(ctx, latest,
			client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{}), client.FieldOwner(fieldManager))
	})
}

// metadata writes all but the status, such as finalizers.
func (p patcher) metadata(ctx context.Context, o v1alpha1.Object) error {
	after := copied(o)
	after.Base().Status = p.before.Base().Status
	patch := client.MergeFrom(p.before)
	if data, err := patch.Data(after); err != nil || string(data) == "{}" {
		return err
	}
	return p.client.Patch(ctx, after, patch, client.FieldOwner(fieldManager))
}

// status writes the status but for its conditions.
func (p patcher) status(ctx context.Context, o v1alpha1.Object) error {
	before, after := copied(p.before), copied(p.before)
	after.Base().Status = copied(o).Base().Status
	for _, o := range []v1alpha1.Object{before, after} {
		o.SetConditions([]metav1.Condition(nil))
	}
	patch := client.MergeFrom(before)
	if data, err := patch.Data(after); err != nil || string(data) == "{}" {
		return err
	}
	return p.client.Status().Patch(ctx, after, patch, client.FieldOwner(fieldManager))
}
