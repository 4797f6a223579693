package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
)

// findStale lists the objects of the inventory that are no longer rendered, each with the action
// Deleted or Kept.
func (a *Applier) findStale(ctx context.Context, p Pool, before []Reference,
	objects []*unstructured.Unstructured,
) ([]Change, error) {
	var all []Change
	for _, r := range before {
		rendered := func(o *unstructured.Unstructured) bool { return sameObject(r, referenceTo(o)) }
		if slices.ContainsFunc(objects, rendered) {
			continue
		}
		existing := r.object()
		err := a.client.Get(ctx, client.ObjectKeyFromObject(existing), existing)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("get %s, which pool %s no longer renders: %w", r, p.Name, err)
		}
		reason, err := a.keepReason(ctx, p, existing)
		if err != nil {
			return all, err
		}
		c := Change{Reference: r, Action: Deleted, Reason: reason}
		if reason != "" {
			c.Action = Kept
		}
		all = append(all, c)
	}
	return all, nil
}

// sameObject reports whether two references name the same object. The API version may differ.
func sameObject(a, b Reference) bool {
	group := func(version string) string {
		g, _, grouped := strings.Cut(version, "/")
		if !grouped {
			return ""
		}
		return g
	}
	return a.Kind == b.Kind && a.Namespace == b.Namespace && a.Name == b.Name &&
		group(a.APIVersion) == group(b.APIVersion)
}

// keepReason returns why an object that is no longer rendered is kept, "" when it may be deleted.
func (a *Applier) keepReason(ctx context.Context, p Pool, o *unstructured.Unstructured) (string, error) {
	if o.GetLabels()[render.LabelPool] != p.Name {
		return "its label names another owner", nil
	}
	switch o.GetKind() {
	case "StatefulSet":
		if p.removing { // its bricks are removed with it
			return "", nil
		}
		return "it serves a brick: delete it by hand once the brick is empty", nil
	case "PersistentVolumeClaim":
		return "it has the data of a brick: delete it by hand", nil
	case "StorageClass":
		var volumes corev1.PersistentVolumeList
		if err := a.client.List(ctx, &volumes); err != nil {
			return "", fmt.Errorf("find volumes of StorageClass %s: %w", o.GetName(), err)
		}
		n := 0
		for _, v := range volumes.Items {
			if v.Spec.StorageClassName == o.GetName() {
				n++
			}
		}
		if n > 0 {
			return fmt.Sprintf("%d volumes use it", n), nil
		}
	}
	return "", nil
}
