package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/atoll-storage/atoll/render"
	"github.com/atoll-storage/atoll/render/plan"
	"github.com/atoll-storage/atoll/schema"
)

// AllowAnnotation on a document lists the dangers that its author intends, as
// comma-separated codes of 'atoll plan'.
const AllowAnnotation = "atoll.storage/allow"

// ErrDangerous reports that a change of a pool puts its data at risk. Nothing of the pool was
// applied.
var ErrDangerous = errors.New("the change puts data at risk; nothing of it was applied")

// notDrained is the code of the danger that bricks are removed before they are empty.
const notDrained = "not-drained"

// replacementDangers are part of replacing a brick: the plan warns of them, and the bricks
// themselves refuse what would lose data.
var replacementDangers = []string{"brick-moved", "brick-renewed", "immutable"}

// guard compares a document with the one that was applied last, and refuses dangerous changes.
func (a *Applier) guard(ctx context.Context, p Pool, last *schema.Pool) error {
	if last == nil || p.Document == nil {
		return nil
	}
	diff, err := plan.Compare([]*schema.Pool{last}, []*schema.Pool{p.Document}, p.Options)
	if err != nil {
		return err
	}
	var dangers []plan.Danger
	for _, c := range diff.Pools {
		dangers = append(dangers, c.Dangers...)
	}
	if len(p.Document.Spec.Bricks) < len(last.Spec.Bricks) {
		notEmpty, err := a.checkDrained(ctx, p, last)
		if err != nil {
			return err
		}
		dangers = append(dangers, notEmpty...)
	}
	allowed := strings.FieldsFunc(p.Document.Metadata.Annotations[AllowAnnotation],
		func(r rune) bool { return r == ',' || r == ' ' })
	var errs []error
	for _, d := range dangers {
		if !slices.Contains(replacementDangers, d.Code) && !slices.Contains(allowed, d.Code) {
			errs = append(errs, fmt.Errorf("%s: %s; instead: %s", d.Code, d.Message, d.Instead))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w: %w\nto allow a change nevertheless, add its code to annotation %s", ErrDangerous,
			errors.Join(errs...), AllowAnnotation)
	}
	return nil
}

// checkDrained reports a danger unless the rebalance has moved all files off the bricks that
// the last document decommissions. Whether all removed bricks are among those, the plan says.
func (a *Applier) checkDrained(ctx context.Context, p Pool, last *schema.Pool) ([]plan.Danger, error) {
	wanted, err := layoutOf(last, p.Options)
	if err != nil {
		return nil, fmt.Errorf("check that removed bricks are empty: %w", err)
	}
	var rebalance appsv1.Deployment
	err = a.client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: render.RebalanceName(p.Name)}, &rebalance)
	missing := apierrors.IsNotFound(err)
	if err != nil && !missing {
		return nil, fmt.Errorf("check that removed bricks are empty: %w", err)
	}
	d := plan.Danger{
		Code: notDrained,
		Message: fmt.Sprintf("bricks are removed before Deployment %s is ready: they may still have files",
			render.RebalanceName(p.Name)),
		Instead: "wait until it is ready: the change is then applied by itself",
	}
	switch {
	case missing, wanted == "", render.RebalanceLayout(&rebalance) != wanted:
		d.Message = fmt.Sprintf("bricks are removed, but no Deployment %s is for the layout of the last document: "+
			"they may still have files", render.RebalanceName(p.Name))
		d.Instead = "apply the pool with these bricks decommissioned, and wait until the Deployment is ready"
	case allReady(&rebalance):
		return nil, nil
	}
	return []plan.Danger{d}, nil
}

// layoutOf returns the layout that the rebalance of a document has to reach, "" if there is none.
func layoutOf(document *schema.Pool, o render.Options) (string, error) {
	objects, err := render.Render(document, o)
	for _, object := range objects {
		if d, ok := object.(*appsv1.Deployment); ok && d.Name == render.RebalanceName(document.Metadata.Name) {
			return render.RebalanceLayout(d), nil
		}
	}
	return "", err
}

// allReady reports whether all pods of a Deployment are ready and of its current template. A pod
// of a former template that is still ready does not count.
func allReady(d *appsv1.Deployment) bool {
	s := d.Status
	return s.ObservedGeneration == d.Generation && s.UpdatedReplicas > 0 && s.Replicas == s.UpdatedReplicas &&
		s.ReadyReplicas == s.UpdatedReplicas && s.AvailableReplicas == s.UpdatedReplicas
}
