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

// findStale lists what the inventory has and the pool has no more, and what becomes of it.
func (a *Applier) findStale(ctx context.Context, p Pool, before []Reference, objects []*unstructured.Unstructured) ([]Change, error) {
	var all []Change
	for _, r := range before {
		if slices.ContainsFunc(objects, func(o *unstructured.Unstructured) bool { return same(r, referenceTo(o)) }) {
			continue
		}
		is := r.object()
		err := a.client.Get(ctx, client.ObjectKeyFromObject(is), is)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("looking at %s, which pool %s has no more: %w", r, p.Name, err)
		}
		reason, err := a.keeps(ctx, p, is)
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

// same tells whether two name one object; its version may have changed.
func same(a, b Reference) bool {
	group := func(version string) string {
		g, _, grouped := strings.Cut(version, "/")
		if !grouped {
			return ""
		}
		return g
	}
	return a.Kind == b.Kind && a.Namespace == b.Namespace && a.Name == b.Name && group(a.APIVersion) == group(b.APIVersion)
}

// keeps says why an object stays though its pool has it no more; "" when it may go.
func (a *Applier) keeps(ctx context.Context, p Pool, o *unstructured.Unstructured) (string, error) {
	if o.GetLabels()[render.LabelPool] != p.Name {
		return "it is labelled as somebody else's by now", nil
	}
	switch o.GetKind() {
	case "StatefulSet":
		if p.leaves { // the pool goes, and its bricks with it
			return "", nil
		}
		return "it serves a brick: delete it by hand when the brick has no files any more", nil
	case "PersistentVolumeClaim":
		return "it has a brick's data: delete it by hand", nil
	case "StorageClass":
		var volumes corev1.PersistentVolumeList
		if err := a.client.List(ctx, &volumes); err != nil {
			return "", fmt.Errorf("looking whether volumes use StorageClass %s: %w", o.GetName(), err)
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
