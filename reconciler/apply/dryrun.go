package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fluxcd/pkg/ssa"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
)

// dryRun has the API server take every object without keeping it. All that it refuses is
// told of at once.
func (a *Applier) dryRun(ctx context.Context, p Pool, before record, objects []*unstructured.Unstructured) ([]Change, error) {
	var all []Change
	var errs []error
	for _, o := range objects {
		c := Change{Reference: referenceTo(o), Action: Created}
		known := slices.ContainsFunc(before.objects, func(r Reference) bool { return same(r, c.Reference) })
		created, err := false, error(nil)
		if !known { // most likely it is not there
			created, err = a.creates(ctx, o)
		}
		if err == nil && !created {
			c, err = a.differs(ctx, p, o)
		}
		if err != nil {
			errs = append(errs, err)
		}
		all = append(all, c)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("%w:\n%w", ErrRefused, errors.Join(errs...))
	}
	return all, nil
}

// creates tells whether an object is not there, and the API server would take it.
func (a *Applier) creates(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	would := o.DeepCopy()
	if err := send(ctx, a.client, would, client.DryRunAll); err != nil {
		return false, explain(o, err)
	}
	return would.GetResourceVersion() == "", nil
}

// differs compares an object that may be there with what it would become.
func (a *Applier) differs(ctx context.Context, p Pool, o *unstructured.Unstructured) (Change, error) {
	if err := a.checkOwnership(ctx, p, o); err != nil {
		return Change{}, err
	}
	entry, is, merged, err := a.manager.Diff(ctx, o.DeepCopy(), ssa.DefaultDiffOptions())
	if err != nil {
		return Change{}, explain(o, err)
	}
	return Change{Reference: referenceTo(o), Action: Action(entry.Action), Fields: fields(is, merged)}, nil
}

// fields lists where an object differs from what it would become.
func fields(is, merged *unstructured.Unstructured) []plan.Difference {
	if is == nil || merged == nil {
		return nil
	}
	return slices.DeleteFunc(plan.Differences("", is.Object, merged.Object), func(d plan.Difference) bool {
		return slices.Contains([]string{"metadata.generation", "metadata.resourceVersion", "metadata.managedFields"}, d.Path)
	})
}

// checkOwnership refuses to take over an object that is there and is not this pool's. Names of
// classes are the cluster's: a pool of the same name in another namespace has the same.
func (a *Applier) checkOwnership(ctx context.Context, p Pool, o *unstructured.Unstructured) error {
	if o.GetNamespace() != "" {
		return nil // it is in the pool's namespace, under the pool's name
	}
	is := referenceTo(o).object()
	err := a.client.Get(ctx, client.ObjectKeyFromObject(is), is)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", referenceTo(o), err)
	}
	pool, namespace := is.GetLabels()[render.LabelPool], is.GetLabels()[render.LabelNamespace]
	switch {
	case pool == p.Name && namespace == p.Namespace:
		return nil
	case pool == "":
		return fmt.Errorf("%s is there and is no pool's; give the class another name, or delete that one", referenceTo(o))
	}
	return fmt.Errorf("%s belongs to the pool %s of namespace %s; give the pool, or the class, another name", referenceTo(o), pool, namespace)
}

// explain says what to do about an object that is refused.
func explain(o *unstructured.Unstructured, err error) error {
	hint := ""
	switch {
	case apierrors.IsNotFound(err) && o.GetNamespace() != "":
		hint = "; make the namespace: kubectl create namespace " + o.GetNamespace()
	case apierrors.IsInvalid(err) && o.GetKind() == "StorageClass":
		hint = "; a class cannot change: give the new one another name, and keep the old one while volumes use it"
	case apierrors.IsInvalid(err) && o.GetKind() == "StatefulSet":
		hint = "; a brick is never deleted to be made anew"
	case apierrors.IsForbidden(err):
		hint = "; the user of this kubeconfig may not do that"
	}
	return fmt.Errorf("%s %s: %w%s", o.GetKind(), o.GetName(), err, hint)
}
