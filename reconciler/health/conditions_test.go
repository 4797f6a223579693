package health

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/schema"
)

// TestConditionsOf changes one of three healthy bricks, and checks the reason of each condition.
func TestConditionsOf(t *testing.T) {
	const starting, offline = v1alpha1.PhaseStarting, v1alpha1.PhaseOffline
	for name, test := range map[string]struct {
		change  func(b *Brick)
		reasons string // of BricksOnline, Healed and QuotaEnforced
		healthy bool
	}{
		"healthy":     {func(*Brick) {}, "AllOnline NothingToHeal Enforced", true},
		"starting":    {func(b *Brick) { b.Phase = starting }, "BricksStarting NothingToHeal Enforced", false},
		"offline":     {func(b *Brick) { b.Phase = offline }, "BricksAway NothingToHeal Enforced", false},
		"no agent":    {func(b *Brick) { b.AgentReachable = false }, "AllOnline NoAgentAnswers NoAgentAnswers", false},
		"pending":     {func(b *Brick) { b.Backlog = 1 }, "AllOnline Healing Enforced", false},
		"new":         {func(b *Brick) { b.Fresh = true }, "AllOnline Healing Enforced", false},
		"split-brain": {func(b *Brick) { b.SplitBrain, b.Backlog = 1, 1 }, "AllOnline SplitBrain Enforced", false},
		"no quota":    {func(b *Brick) { b.Enforced = false }, "AllOnline NothingToHeal Advisory", true},
	} {
		bricks := make([]Brick, 3)
		for i := range bricks {
			bricks[i].BrickStatus = v1alpha1.BrickStatus{Index: i, Online: true, Phase: v1alpha1.PhaseOnline}
			bricks[i].AgentReachable, bricks[i].Enforced = true, true
		}
		test.change(&bricks[1])
		bricks[1].Online = bricks[1].Phase == v1alpha1.PhaseOnline
		pool := &schema.Pool{Spec: schema.Spec{Type: schema.Replica3}}
		c := ConditionsOf(pool, bricks)
		reasons := c.BricksOnline.Reason + " " + c.Healed.Reason + " " + c.QuotaEnforced.Reason
		if reasons != test.reasons {
			t.Errorf("%s: reasons %q, want %q", name, reasons, test.reasons)
		}
		if c.Healthy() != test.healthy {
			t.Errorf("%s: healthy is %t", name, c.Healthy())
		}
		named := strings.Contains(c.BricksOnline.Message, "brick 1")
		if named != (c.BricksOnline.Status == metav1.ConditionFalse) {
			t.Errorf("%s: message %q", name, c.BricksOnline.Message)
		}
	}
}
