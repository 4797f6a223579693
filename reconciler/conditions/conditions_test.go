package conditions_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fluxcd/pkg/apis/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/conditions"
)

func TestSet(t *testing.T) {
	before := metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second))
	for name, test := range map[string]struct {
		is, set    metav1.Condition
		transition bool
	}{
		"same": {
			is:  metav1.Condition{Status: metav1.ConditionTrue, Reason: "A", Message: "a"},
			set: metav1.Condition{Status: metav1.ConditionTrue, Reason: "A", Message: "a"},
		},
		"new status": {
			is:  metav1.Condition{Status: metav1.ConditionTrue},
			set: metav1.Condition{Status: metav1.ConditionFalse}, transition: true,
		},
		"new reason":  {is: metav1.Condition{Reason: "A"}, set: metav1.Condition{Reason: "B"}, transition: true},
		"new message": {is: metav1.Condition{Message: "a"}, set: metav1.Condition{Message: "b"}, transition: true},
	} {
		t.Run(name, func(t *testing.T) {
			o := &v1alpha1.StoragePool{}
			o.Generation = 7
			test.is.Type, test.set.Type = meta.ReadyCondition, meta.ReadyCondition
			test.is.LastTransitionTime = before
			o.SetConditions([]metav1.Condition{test.is})
			conditions.Set(o, &test.set)
			got := conditions.Get(o, meta.ReadyCondition)
			if got.ObservedGeneration != 7 {
				t.Errorf("observed generation %d, want 7", got.ObservedGeneration)
			}
			if changed := !got.LastTransitionTime.Equal(&before); changed != test.transition {
				t.Errorf("last transition time changed: %v, want %v", changed, test.transition)
			}
		})
	}
}

func TestSetTrimsMessage(t *testing.T) {
	o := &v1alpha1.StoragePool{}
	conditions.MarkFalse(o, meta.ReadyCondition, "Long", "%s", strings.Repeat("x", 40000))
	if m := conditions.Get(o, meta.ReadyCondition).Message; len(m) != 32768 || !strings.HasSuffix(m, "x...") {
		t.Errorf("message has %d bytes and ends with %q", len(m), m[len(m)-4:])
	}
}

func TestOrder(t *testing.T) {
	o := &v1alpha1.StoragePool{}
	for _, kind := range []string{
		v1alpha1.HealedCondition, meta.ReadyCondition, v1alpha1.BricksOnlineCondition,
		meta.ReconcilingCondition,
	} {
		conditions.MarkTrue(o, kind, "Reason", "message")
	}
	o.Generation = 2
	conditions.MarkTrue(o, v1alpha1.QuotaEnforcedCondition, "Reason", "message")
	var got []string
	for _, c := range o.GetConditions() {
		got = append(got, c.Type)
	}
	want := []string{
		meta.ReconcilingCondition, meta.ReadyCondition,
		v1alpha1.QuotaEnforcedCondition, v1alpha1.BricksOnlineCondition, v1alpha1.HealedCondition,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReconcilingAndStalledExclude(t *testing.T) {
	o := &v1alpha1.StoragePool{}
	conditions.MarkStalled(o, "Invalid", "message")
	conditions.MarkReconciling(o, "Working", "message")
	if conditions.Get(o, meta.StalledCondition) != nil || conditions.Get(o, meta.ReconcilingCondition) == nil {
		t.Errorf("after MarkReconciling: %v", o.GetConditions())
	}
	conditions.MarkStalled(o, "Invalid", "message")
	if conditions.Get(o, meta.StalledCondition) == nil || conditions.Get(o, meta.ReconcilingCondition) != nil {
		t.Errorf("after MarkStalled: %v", o.GetConditions())
	}
}
