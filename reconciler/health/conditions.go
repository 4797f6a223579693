package health

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/schema"
)

// maxNamedBricks is how many bricks a condition message names.
const maxNamedBricks = 3

// Conditions are the conditions of a pool that follow from its bricks.
type Conditions struct {
	BricksOnline  metav1.Condition
	Healed        metav1.Condition
	QuotaEnforced metav1.Condition
}

// ConditionsOf computes the conditions of a pool from its bricks. For an External pool, which has
// no bricks here, only QuotaEnforced is meaningful.
func ConditionsOf(pool *schema.Pool, bricks []Brick) Conditions {
	return Conditions{
		BricksOnline:  bricksOnline(bricks),
		Healed:        healed(bricks),
		QuotaEnforced: quotaEnforced(pool, bricks),
	}
}

// All lists the conditions.
func (c Conditions) All() []metav1.Condition {
	return []metav1.Condition{c.BricksOnline, c.Healed, c.QuotaEnforced}
}

// Healthy reports whether all bricks are online and nothing is to be healed.
func (c Conditions) Healthy() bool {
	return c.BricksOnline.Status == metav1.ConditionTrue && c.Healed.Status == metav1.ConditionTrue
}

func newCondition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func bricksOnline(bricks []Brick) metav1.Condition {
	var down []string
	reason := v1alpha1.ReasonBricksStarting
	for _, b := range bricks {
		if b.Online {
			continue
		}
		if b.Phase == v1alpha1.PhaseOffline {
			reason = v1alpha1.ReasonBricksAway
		}
		text := fmt.Sprintf("brick %d (%s) is %s", b.Index, b.Place, strings.ToLower(string(b.Phase)))
		if b.Message != "" {
			text += ": " + b.Message
		}
		down = append(down, text)
	}
	if len(down) == 0 {
		return newCondition(v1alpha1.BricksOnlineCondition, metav1.ConditionTrue, v1alpha1.ReasonAllOnline,
			fmt.Sprintf("%d of %d bricks are online", len(bricks), len(bricks)))
	}
	more := ""
	if len(down) > maxNamedBricks {
		more = fmt.Sprintf("; and %d more", len(down)-maxNamedBricks)
		down = down[:maxNamedBricks]
	}
	return newCondition(v1alpha1.BricksOnlineCondition, metav1.ConditionFalse, reason, strings.Join(down, "; ")+more)
}

func healed(bricks []Brick) metav1.Condition {
	var backlog, splitBrains int64
	reachable, fresh := 0, 0
	for _, b := range bricks {
		backlog, splitBrains = backlog+b.Backlog, max(splitBrains, b.SplitBrain)
		if b.AgentReachable {
			reachable++
		}
		if b.Fresh {
			fresh++
		}
	}
	kind := v1alpha1.HealedCondition
	switch {
	case reachable < len(bricks):
		return newCondition(kind, metav1.ConditionUnknown, v1alpha1.ReasonUnknown,
			fmt.Sprintf("the agents of %d of %d bricks respond", reachable, len(bricks)))
	case splitBrains > 0:
		return newCondition(kind, metav1.ConditionFalse, v1alpha1.ReasonSplitBrain,
			fmt.Sprintf("%d entries are in split-brain and cannot be read: 'atoll heal split-brain' lists them",
				splitBrains))
	case backlog > 0 || fresh > 0:
		return newCondition(kind, metav1.ConditionFalse, v1alpha1.ReasonHealing,
			"bricks with missing or outdated data are being healed")
	}
	return newCondition(kind, metav1.ConditionTrue, v1alpha1.ReasonNothingToHeal, "no heals are pending")
}

func quotaEnforced(pool *schema.Pool, bricks []Brick) metav1.Condition {
	kind := v1alpha1.QuotaEnforcedCondition
	switch pool.Spec.Type {
	case schema.External:
		return newCondition(kind, metav1.ConditionFalse, v1alpha1.ReasonAdvisory,
			"sizes are advisory unless atoll-brick quotad runs on all hosts of the volume")
	case schema.Arbiter:
		return newCondition(kind, metav1.ConditionFalse, v1alpha1.ReasonAdvisory, "sizes are advisory in Arbiter pools")
	}
	var without []string
	for _, b := range bricks {
		if !b.AgentReachable {
			return newCondition(kind, metav1.ConditionUnknown, v1alpha1.ReasonUnknown,
				fmt.Sprintf("the agent of brick %d does not respond", b.Index))
		}
		if !b.Enforced {
			without = append(without, fmt.Sprintf("%d (%s)", b.Index, b.Place))
		}
	}
	if len(without) > 0 {
		return newCondition(kind, metav1.ConditionFalse, v1alpha1.ReasonAdvisory,
			"sizes are advisory: no project quota on the file system of brick "+strings.Join(without, ", "))
	}
	return newCondition(kind, metav1.ConditionTrue, v1alpha1.ReasonEnforced, "bricks enforce volume sizes")
}
