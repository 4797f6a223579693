package health

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/schema"
)

// named is how many bricks are told of by name.
const named = 3

// Fill writes what bricks are into the status of their pool.
func Fill(s *v1alpha1.PoolStatus, pool *schema.Pool, bricks []Brick) {
	before := s.FreeBytes
	s.Bricks, s.Backlog, s.SizeBytes, s.FreeBytes = nil, 0, 0, 0
	online, known := 0, 0
	for _, b := range bricks {
		s.Bricks = append(s.Bricks, b.BrickStatus)
		if b.Online {
			online++
		}
		if b.AgentReachable {
			known++
		}
		s.Backlog += b.Backlog
	}
	if known == 0 {
		s.Backlog = -1
	}
	s.BricksOnline = fmt.Sprintf("%d/%d", online, len(bricks))
	size := max(1, pool.Spec.SetSize())
	for set := range slices.Chunk(bricks, size) {
		if least := smallest(pool, set); least.AgentReachable {
			s.SizeBytes += int64(least.Size) * int64(pool.Spec.DataBricks())
			s.FreeBytes += int64(least.Free) * int64(pool.Spec.DataBricks())
		}
	}
	s.FreeBytes = coarse(before, s.FreeBytes, s.SizeBytes)
	if p, known := promised(bricks, size); known {
		s.PromisedBytes = &p
	}
}

// promised adds up the sizes of all volumes: folders, which every brick has, once, and blocks
// of every set. A brick that was away, or is new, may lack volumes until it is healed, so that
// the one with most counts. Where a whole set does not tell, nothing is known.
func promised(bricks []Brick, size int) (bytes int64, known bool) {
	var folders, blocks int64
	for set := range slices.Chunk(bricks, size) {
		known = false
		most := int64(0)
		for _, b := range set {
			if b.Online && b.Promised != nil {
				known, folders, most = true, max(folders, b.Promised.Folders), max(most, b.Promised.Blocks)
			}
		}
		if !known {
			return 0, false
		}
		blocks += most
	}
	return folders + blocks, known
}

// coarse keeps what was told of the free space until it is wrong by a hundredth of the
// size: a status that changes all the time is written all the time.
func coarse(before, now, size int64) int64 {
	if difference := now - before; difference < size/100 && -difference < size/100 {
		return before
	}
	return now
}

// smallest is the brick of a set that fills up first; an arbiter has no data.
func smallest(pool *schema.Pool, set []Brick) Brick {
	if pool.Spec.Type == schema.Arbiter {
		set = set[:2]
	}
	var least Brick
	for _, b := range set {
		if b.AgentReachable && (!least.AgentReachable || b.Free < least.Free) {
			least = b
		}
	}
	return least
}

// Conditions are BricksOnline, Healed and QuotaEnforced.
func Conditions(pool *schema.Pool, bricks []Brick) []metav1.Condition {
	return []metav1.Condition{online(bricks), healed(bricks), enforced(pool, bricks)}
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func online(bricks []Brick) metav1.Condition {
	var away []string
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
		away = append(away, text)
	}
	if len(away) == 0 {
		return condition(v1alpha1.BricksOnlineCondition, metav1.ConditionTrue, v1alpha1.ReasonAllOnline, fmt.Sprintf("%d of %d bricks are online", len(bricks), len(bricks)))
	}
	more := ""
	if len(away) > named {
		more = fmt.Sprintf("; and %d more", len(away)-named)
		away = away[:named]
	}
	return condition(v1alpha1.BricksOnlineCondition, metav1.ConditionFalse, reason, strings.Join(away, "; ")+more)
}

func healed(bricks []Brick) metav1.Condition {
	var backlog, splits int64
	known, fresh := 0, 0
	for _, b := range bricks {
		backlog, splits = backlog+b.Backlog, max(splits, b.SplitBrain)
		if b.AgentReachable {
			known++
		}
		if b.Fresh {
			fresh++
		}
	}
	switch {
	case known < len(bricks):
		return condition(v1alpha1.HealedCondition, metav1.ConditionUnknown, v1alpha1.ReasonUnknown, fmt.Sprintf("the agents of %d of %d bricks answer", known, len(bricks)))
	case splits > 0:
		return condition(v1alpha1.HealedCondition, metav1.ConditionFalse, v1alpha1.ReasonSplitBrain, fmt.Sprintf("%d entries cannot be read: 'atoll heal split-brain' lists them", splits))
	case backlog > 0 || fresh > 0:
		return condition(v1alpha1.HealedCondition, metav1.ConditionFalse, v1alpha1.ReasonHealing, "bricks lack what others have, and are being healed")
	}
	return condition(v1alpha1.HealedCondition, metav1.ConditionTrue, v1alpha1.ReasonNothingToHeal, "no brick lacks anything")
}

func enforced(pool *schema.Pool, bricks []Brick) metav1.Condition {
	kind := v1alpha1.QuotaEnforcedCondition
	switch pool.Spec.Type {
	case schema.External:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonAdvisory, "sizes are advisory unless atoll-brick quotad runs on all hosts of the volume")
	case schema.Arbiter:
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonAdvisory, "sizes are advisory in Arbiter pools")
	}
	var not []string
	for _, b := range bricks {
		if !b.AgentReachable {
			return condition(kind, metav1.ConditionUnknown, v1alpha1.ReasonUnknown, fmt.Sprintf("the agent of brick %d does not answer", b.Index))
		}
		if !b.Enforced {
			not = append(not, fmt.Sprintf("%d (%s)", b.Index, b.Place))
		}
	}
	if len(not) > 0 {
		return condition(kind, metav1.ConditionFalse, v1alpha1.ReasonAdvisory, "sizes are advisory: no project quota on the file system of brick "+strings.Join(not, ", "))
	}
	return condition(kind, metav1.ConditionTrue, v1alpha1.ReasonEnforced, "bricks hold volumes to their sizes")
}
