// Package conditions reads and sets the conditions of a pool with the semantics of
// fluxcd/pkg/runtime/conditions, so that kubectl and Flux handle pools like other resources. It
// does not import that package, which links gomega into the program.
package conditions

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// messageLimit is the longest message of a condition that the API server accepts.
const messageLimit = 32768

// Object is a resource with conditions.
type Object interface {
	GetGeneration() int64
	GetConditions() []metav1.Condition
	SetConditions([]metav1.Condition)
}

// Get returns a copy of the condition of a type, or nil.
func Get(o Object, kind string) *metav1.Condition {
	for _, c := range o.GetConditions() {
		if c.Type == kind {
			return &c
		}
	}
	return nil
}

// Set adds a condition, or replaces the one of its type. It records the generation, and keeps the
// time of the last transition while status, reason and message stay the same.
func Set(o Object, c *metav1.Condition) {
	c.ObservedGeneration = o.GetGeneration()
	if len(c.Message) > messageLimit {
		c.Message = c.Message[:messageLimit-3] + "..."
	}
	if was := Get(o, c.Type); was != nil {
		c.LastTransitionTime = was.LastTransitionTime
		if was.Status != c.Status || was.Reason != c.Reason || was.Message != c.Message {
			c.LastTransitionTime = now()
		}
	} else if c.LastTransitionTime.IsZero() {
		c.LastTransitionTime = now()
	}
	all := slices.DeleteFunc(slices.Clone(o.GetConditions()),
		func(other metav1.Condition) bool { return other.Type == c.Type })
	all = append(all, *c)
	slices.SortFunc(all, compare)
	o.SetConditions(all)
}

// Delete removes the condition of a type.
func Delete(o Object, kind string) {
	o.SetConditions(slices.DeleteFunc(slices.Clone(o.GetConditions()),
		func(c metav1.Condition) bool { return c.Type == kind }))
}

// MarkTrue sets a condition to True.
func MarkTrue(o Object, kind, reason, format string, args ...any) {
	Set(o, &metav1.Condition{
		Type: kind, Status: metav1.ConditionTrue, Reason: reason,
		Message: fmt.Sprintf(format, args...),
	})
}

// MarkFalse sets a condition to False.
func MarkFalse(o Object, kind, reason, format string, args ...any) {
	Set(o, &metav1.Condition{
		Type: kind, Status: metav1.ConditionFalse, Reason: reason,
		Message: fmt.Sprintf(format, args...),
	})
}

// MarkReconciling sets Reconciling to True and removes Stalled.
func MarkReconciling(o Object, reason, format string, args ...any) {
	Delete(o, meta.StalledCondition)
	MarkTrue(o, meta.ReconcilingCondition, reason, format, args...)
}

// MarkStalled sets Stalled to True and removes Reconciling: retrying would not help.
func MarkStalled(o Object, reason, format string, args ...any) {
	Delete(o, meta.ReconcilingCondition)
	MarkTrue(o, meta.StalledCondition, reason, format, args...)
}

// now is the time in the precision that the API server keeps.
func now() metav1.Time { return metav1.NewTime(time.Now().UTC().Truncate(time.Second)) }

// first lists the condition types that come before all others, in this order.
var first = []string{meta.StalledCondition, meta.ReconcilingCondition, meta.ReadyCondition}

// compare orders conditions: the common ones first, then those of the newest generation.
func compare(a, b metav1.Condition) int {
	rank := func(c metav1.Condition) int {
		if i := slices.Index(first, c.Type); i >= 0 {
			return i
		}
		return len(first)
	}
	if d := cmp.Compare(rank(a), rank(b)); d != 0 || rank(a) < len(first) {
		return d
	}
	return cmp.Or(cmp.Compare(b.ObservedGeneration, a.ObservedGeneration), cmp.Compare(a.Type, b.Type))
}
