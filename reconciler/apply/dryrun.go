package apply

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
)

// dryRun sends every object to the API server as a dry run. It reports all rejected objects
// at once.
func (a *Applier) dryRun(
	ctx context.Context, p Pool, before record, objects []*unstructured.Unstructured,
) ([]Change, error) {
	var all []Change
	var errs []error
	for _, o := range objects {
		c := Change{Reference: referenceTo(o), Action: Created}
		known := slices.ContainsFunc(before.objects, func(r Reference) bool { return sameObject(r, c.Reference) })
		created, err := false, error(nil)
		if !known { // most likely it does not exist
			created, err = a.wouldCreate(ctx, o)
		}
		if err == nil && !created {
			c, err = a.diff(ctx, p, o)
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

// wouldCreate reports whether an object does not exist and the API server would accept it.
func (a *Applier) wouldCreate(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	result := o.DeepCopy()
	if err := serverSideApply(ctx, a.client, result, client.DryRunAll); err != nil {
		return false, withRemedy(o, err)
	}
	return result.GetResourceVersion() == "", nil
}

// diff compares the object in the cluster, if it exists, with the result of applying it.
func (a *Applier) diff(ctx context.Context, p Pool, o *unstructured.Unstructured) (Change, error) {
	if err := a.checkOwnership(ctx, p, o); err != nil {
		return Change{}, err
	}
	c := Change{Reference: referenceTo(o), Action: Unchanged}
	existing, merged := c.object(), o.DeepCopy()
	if err := a.client.Get(ctx, client.ObjectKeyFromObject(existing), existing); client.IgnoreNotFound(err) != nil {
		return Change{}, fmt.Errorf("read %s: %w", c.Reference, err)
	}
	if err := serverSideApply(ctx, a.client, merged, client.DryRunAll); err != nil {
		return Change{}, withRemedy(o, err)
	}
	switch {
	case merged.GetResourceVersion() == "":
		c.Action = Created
	case !sameContent(existing, merged):
		c.Action, c.Fields = Configured, changedFields(existing, merged)
	}
	return c, nil
}

// sameContent reports whether two states of an object have the same labels, annotations and
// content. The API server and controllers write the rest of the metadata, and the status.
func sameContent(a, b *unstructured.Unstructured) bool {
	content := func(o *unstructured.Unstructured) map[string]any {
		fields := maps.Clone(o.Object)
		delete(fields, "metadata")
		delete(fields, "status")
		return fields
	}
	return equality.Semantic.DeepEqual(a.GetLabels(), b.GetLabels()) &&
		equality.Semantic.DeepEqual(a.GetAnnotations(), b.GetAnnotations()) &&
		equality.Semantic.DeepEqual(content(a), content(b))
}

// changedFields lists the fields that applying an object would change.
func changedFields(existing, merged *unstructured.Unstructured) []plan.Difference {
	serverOwned := []string{"metadata.generation", "metadata.resourceVersion", "metadata.managedFields"}
	return slices.DeleteFunc(plan.Differences("", existing.Object, merged.Object), func(d plan.Difference) bool {
		return slices.Contains(serverOwned, d.Path)
	})
}

// checkOwnership refuses to take over an existing object of another owner. StorageClasses are
// cluster-scoped: a pool of the same name in another namespace uses the same class names.
func (a *Applier) checkOwnership(ctx context.Context, p Pool, o *unstructured.Unstructured) error {
	if o.GetNamespace() != "" {
		return nil // it is in the pool's namespace, and its name contains the pool's
	}
	existing := referenceTo(o).object()
	err := a.client.Get(ctx, client.ObjectKeyFromObject(existing), existing)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get %s: %w", referenceTo(o), err)
	}
	pool, namespace := existing.GetLabels()[render.LabelPool], existing.GetLabels()[render.LabelNamespace]
	switch {
	case pool == p.Name && namespace == p.Namespace:
		return nil
	case pool == "":
		return fmt.Errorf("%s exists and belongs to no pool; rename the class, or delete the existing one",
			referenceTo(o))
	}
	return fmt.Errorf("%s belongs to pool %s in namespace %s; rename the pool or the class", referenceTo(o), pool,
		namespace)
}

// withRemedy adds to an error what to do about the rejected object.
func withRemedy(o *unstructured.Unstructured, err error) error {
	remedy := ""
	switch {
	case apierrors.IsNotFound(err) && o.GetNamespace() != "":
		remedy = "; create the namespace: kubectl create namespace " + o.GetNamespace()
	case apierrors.IsInvalid(err) && o.GetKind() == "StorageClass":
		remedy = "; a StorageClass is immutable: " +
			"give the new class another name, and keep the old class while volumes use it"
	case apierrors.IsInvalid(err) && o.GetKind() == "StatefulSet":
		remedy = "; the StatefulSet of a brick is never replaced"
	case apierrors.IsForbidden(err):
		remedy = "; grant the user this permission"
	}
	return fmt.Errorf("%s %s: %w%s", o.GetKind(), o.GetName(), err, remedy)
}
