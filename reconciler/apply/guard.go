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

// AllowAnnotation, on a document, lists dangers that its author means, by the codes that
// 'atoll plan' gives them, with commas between.
const AllowAnnotation = "atoll.storage/allow"

// ErrDangerous says that a pool has become what puts its data at risk. Nothing of it was
// applied.
var ErrDangerous = errors.New("the change puts data at risk; nothing of it was applied")

// notDrained is the code of bricks that go before they are empty.
const notDrained = "not-drained"

// tended are dangers that are how bricks are replaced: the plan warns of them, and the
// bricks themselves refuse what would lose data.
var tended = []string{"brick-moved", "brick-renewed", "immutable"}

// guard compares a document with the one that was applied last, and refuses what a change
// of it must not do.
func (a *Applier) guard(ctx context.Context, p Pool, was *schema.Pool) error {
	if was == nil || p.Document == nil {
		return nil
	}
	diff, err := plan.Compare([]*schema.Pool{was}, []*schema.Pool{p.Document}, p.Options)
	if err != nil {
		return err
	}
	var dangers []plan.Danger
	for _, c := range diff.Pools {
		dangers = append(dangers, c.Dangers...)
	}
	if len(p.Document.Spec.Bricks) < len(was.Spec.Bricks) {
		full, err := a.drained(ctx, p)
		if err != nil {
			return err
		}
		dangers = append(dangers, full...)
	}
	allowed := strings.FieldsFunc(p.Document.Metadata.Annotations[AllowAnnotation], func(r rune) bool { return r == ',' || r == ' ' })
	var errs []error
	for _, d := range dangers {
		if !slices.Contains(tended, d.Code) && !slices.Contains(allowed, d.Code) {
			errs = append(errs, fmt.Errorf("%s: %s; instead: %s", d.Code, d.Message, d.Instead))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%w; annotation %s names what is meant:\n%w", ErrDangerous, AllowAnnotation, errors.Join(errs...))
	}
	return nil
}

// drained tells what speaks against removing bricks: what moves files off them has to be
// done.
func (a *Applier) drained(ctx context.Context, p Pool) ([]plan.Danger, error) {
	var mover appsv1.Deployment
	err := a.client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: render.RebalanceName(p.Name)}, &mover)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("looking whether bricks that are removed are empty: %w", err)
	}
	if err == nil && mover.Status.ReadyReplicas > 0 && mover.Status.ObservedGeneration == mover.Generation {
		return nil, nil
	}
	return []plan.Danger{{
		Code: notDrained, Message: fmt.Sprintf("bricks are removed, and Deployment %s is not ready: they may still have files", render.RebalanceName(p.Name)),
		Instead: "wait until it is ready",
	}}, nil
}
