package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/schema"
)

// pool returns the bricks of two healthy replica sets of three, after a change.
func pool(change func(b []health.Brick)) []health.Brick {
	var all []health.Brick
	for i := range 6 {
		all = append(all, health.Brick{BrickStatus: v1alpha1.BrickStatus{Index: i, Online: true}, Pod: "p", Set: i / 3, AgentReachable: true})
	}
	change(all)
	return all
}

func TestNext(t *testing.T) {
	settled := time.Now()
	for name, test := range map[string]struct {
		change func(b []health.Brick)
		force  bool
		brick  int // -1 is none
		reason string
	}{
		"no brick is outdated":                        {func([]health.Brick) {}, false, -1, ""},
		"one outdated brick":                          {func(b []health.Brick) { b[4].Outdated = true }, false, 4, ""},
		"the first of two outdated bricks":            {func(b []health.Brick) { b[4].Outdated, b[2].Outdated = true, true }, false, 2, ""},
		"an offline brick goes first":                 {func(b []health.Brick) { b[1].Outdated, b[4].Outdated, b[4].Online = true, true, false }, false, 4, ""},
		"a brick of the other set is offline":         {func(b []health.Brick) { b[4].Outdated, b[1].Online = true, false }, false, -1, "brick 1"},
		"a brick of the other set is offline, forced": {func(b []health.Brick) { b[4].Outdated, b[1].Online = true, false }, true, 4, ""},
		"a brick of the same set is offline, forced":  {func(b []health.Brick) { b[4].Outdated, b[3].Online = true, false }, true, -1, "brick 3"},
		"two sets, one degraded, forced":              {func(b []health.Brick) { b[0].Outdated, b[4].Outdated, b[1].Online = true, true, false }, true, 4, ""},
		"pending heals":                               {func(b []health.Brick) { b[4].Outdated, b[5].Backlog = true, 7 }, false, -1, "7 heals"},
		"pending heals, forced":                       {func(b []health.Brick) { b[4].Outdated, b[5].Backlog = true, 7 }, true, 4, ""},
		"a new brick is being filled":                 {func(b []health.Brick) { b[4].Outdated, b[0].Fresh = true, true }, false, -1, "brick 0"},
		"same set restarted just now":                 {func(b []health.Brick) { b[4].Outdated, b[3].ReadySince = true, settled.Add(1) }, false, -1, "brick 3"},
		"same set restarted just now, forced":         {func(b []health.Brick) { b[4].Outdated, b[3].ReadySince = true, settled.Add(1) }, true, -1, "brick 3"},
		"other set restarted just now":                {func(b []health.Brick) { b[4].Outdated, b[0].ReadySince = true, settled.Add(1) }, false, 4, ""},
		"same set restarted a while ago":              {func(b []health.Brick) { b[4].Outdated, b[3].ReadySince = true, settled }, false, 4, ""},
		"same set healed just now":                    {func(b []health.Brick) { b[4].Outdated, b[3].HealedSince = true, settled.Add(1) }, false, -1, "brick 3"},
		"the brick itself healed just now":            {func(b []health.Brick) { b[4].Outdated, b[4].HealedSince = true, settled.Add(1) }, false, -1, "brick 4"},
		"other set healed just now":                   {func(b []health.Brick) { b[4].Outdated, b[0].HealedSince = true, settled.Add(1) }, false, 4, ""},
		"same set healed just now, forced":            {func(b []health.Brick) { b[4].Outdated, b[3].HealedSince = true, settled.Add(1) }, true, 4, ""},
		"same set healed a while ago":                 {func(b []health.Brick) { b[4].Outdated, b[3].HealedSince = true, settled }, false, 4, ""},
		"an agent does not respond":                   {func(b []health.Brick) { b[4].Outdated, b[0].AgentReachable = true, false }, false, -1, "agent of brick 0"},
		"an offline brick without a pod":              {func(b []health.Brick) { b[4].Outdated, b[4].Online, b[4].Pod = true, false, "" }, false, -1, "brick 4"},
	} {
		d := Next(pool(test.change), test.force, settled)
		if got := d.Brick; (got == nil) != (test.brick < 0) || got != nil && got.Index != test.brick {
			t.Errorf("%s: brick %+v, want %d", name, got, test.brick)
		}
		if (d.WaitReason == "") != (test.reason == "") || !strings.Contains(d.WaitReason, test.reason) {
			t.Errorf("%s: wait reason %q, want %q", name, d.WaitReason, test.reason)
		}
	}
}

func TestSettledBefore(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		spec schema.Spec
		want time.Duration
	}{
		"subdirectories":                 {schema.Spec{Type: schema.Replica3, Volumes: []schema.Layout{schema.Subdirectory}}, 0},
		"block volumes":                  {schema.Spec{Type: schema.Replica3, Volumes: []schema.Layout{schema.Subdirectory, schema.Block}}, 15 * time.Second},
		"a tiebreaker":                   {schema.Spec{Type: schema.Replica2, Tiebreaker: &schema.Tiebreaker{}, Volumes: []schema.Layout{schema.Subdirectory}}, 30 * time.Second},
		"a tiebreaker and block volumes": {schema.Spec{Type: schema.Replica2, Tiebreaker: &schema.Tiebreaker{}, Volumes: []schema.Layout{schema.Block}}, 30 * time.Second},
	} {
		if got := now.Sub(SettledBefore(&test.spec, now)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
