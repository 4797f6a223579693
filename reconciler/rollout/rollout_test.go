package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/schema"
)

type bricks = []health.Brick

// pool returns the bricks of two healthy replica sets of three, after a change. Brick 4 is outdated.
func pool(change func(b bricks)) bricks {
	var all bricks
	for i := range 6 {
		status := v1alpha1.BrickStatus{Index: i, Online: true}
		all = append(all, health.Brick{BrickStatus: status, Pod: "p", Set: i / 3, AgentReachable: true})
	}
	all[4].Outdated = true
	change(all)
	return all
}

func TestNext(t *testing.T) {
	settled := time.Now()
	justNow := settled.Add(1)
	for name, test := range map[string]struct {
		change func(b bricks)
		force  bool
		brick  int // -1 is none
		reason string
	}{
		"no brick is outdated":         {func(b bricks) { b[4].Outdated = false }, false, -1, ""},
		"one outdated brick":           {func(bricks) {}, false, 4, ""},
		"two outdated bricks":          {func(b bricks) { b[2].Outdated = true }, false, 2, ""},
		"an offline brick is first":    {func(b bricks) { b[1].Outdated, b[4].Online = true, false }, false, 4, ""},
		"other set offline":            {func(b bricks) { b[1].Online = false }, false, -1, "brick 1"},
		"other set offline, forced":    {func(b bricks) { b[1].Online = false }, true, 4, ""},
		"same set offline, forced":     {func(b bricks) { b[3].Online = false }, true, -1, "brick 3"},
		"one set degraded, forced":     {func(b bricks) { b[0].Outdated, b[1].Online = true, false }, true, 4, ""},
		"pending heals":                {func(b bricks) { b[5].Backlog = 7 }, false, -1, "7 heals"},
		"pending heals, forced":        {func(b bricks) { b[5].Backlog = 7 }, true, 4, ""},
		"a new brick is being filled":  {func(b bricks) { b[0].Fresh = true }, false, -1, "brick 0"},
		"same set ready just now":      {func(b bricks) { b[3].ReadySince = justNow }, false, -1, "brick 3"},
		"same set just ready, forced":  {func(b bricks) { b[3].ReadySince = justNow }, true, -1, "brick 3"},
		"other set ready just now":     {func(b bricks) { b[0].ReadySince = justNow }, false, 4, ""},
		"same set ready a while ago":   {func(b bricks) { b[3].ReadySince = settled }, false, 4, ""},
		"same set healed just now":     {func(b bricks) { b[3].HealedSince = justNow }, false, -1, "brick 3"},
		"brick itself just healed":     {func(b bricks) { b[4].HealedSince = justNow }, false, -1, "brick 4"},
		"other set healed just now":    {func(b bricks) { b[0].HealedSince = justNow }, false, 4, ""},
		"same set just healed, forced": {func(b bricks) { b[3].HealedSince = justNow }, true, 4, ""},
		"same set healed a while ago":  {func(b bricks) { b[3].HealedSince = settled }, false, 4, ""},
		"an agent does not respond":    {func(b bricks) { b[0].AgentReachable = false }, false, -1, "agent of brick 0"},
		"an offline brick, no pod":     {func(b bricks) { b[4].Online, b[4].Pod = false, "" }, false, -1, "brick 4"},
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
	subdirectories := schema.Spec{Type: schema.Replica3, Volumes: []schema.Layout{schema.Subdirectory}}
	blocks := schema.Spec{Type: schema.Replica3, Volumes: []schema.Layout{schema.Subdirectory, schema.Block}}
	withTiebreaker := func(s schema.Spec) schema.Spec {
		s.Type, s.Tiebreaker = schema.Replica2, &schema.Tiebreaker{}
		return s
	}
	for name, test := range map[string]struct {
		spec schema.Spec
		want time.Duration
	}{
		"subdirectories":                 {subdirectories, 0},
		"block volumes":                  {blocks, 15 * time.Second},
		"a tiebreaker":                   {withTiebreaker(subdirectories), 30 * time.Second},
		"a tiebreaker and block volumes": {withTiebreaker(blocks), 30 * time.Second},
	} {
		if got := now.Sub(SettledBefore(&test.spec, now)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
