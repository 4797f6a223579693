package rollout

import (
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/reconciler/health"
	"github.com/atoll-storage/atoll/schema"
)

// pool is one of two sets of three good bricks.
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
		waits  string
	}{
		"nothing has changed":              {func([]health.Brick) {}, false, -1, ""},
		"one":                              {func(b []health.Brick) { b[4].Outdated = true }, false, 4, ""},
		"the first of several":             {func(b []health.Brick) { b[4].Outdated, b[2].Outdated = true, true }, false, 2, ""},
		"one that is away goes first":      {func(b []health.Brick) { b[1].Outdated, b[4].Outdated, b[4].Online = true, true, false }, false, 4, ""},
		"another is away":                  {func(b []health.Brick) { b[4].Outdated, b[1].Online = true, false }, false, -1, "brick 1"},
		"another is away, forced":          {func(b []health.Brick) { b[4].Outdated, b[1].Online = true, false }, true, 4, ""},
		"another of the set, forced":       {func(b []health.Brick) { b[4].Outdated, b[3].Online = true, false }, true, -1, "brick 3"},
		"the set is bad, another is not":   {func(b []health.Brick) { b[0].Outdated, b[4].Outdated, b[1].Online = true, true, false }, true, 4, ""},
		"something is to be healed":        {func(b []health.Brick) { b[4].Outdated, b[5].Backlog = true, 7 }, false, -1, "7 entries"},
		"something is healed, forced":      {func(b []health.Brick) { b[4].Outdated, b[5].Backlog = true, 7 }, true, 4, ""},
		"one is being filled":              {func(b []health.Brick) { b[4].Outdated, b[0].Fresh = true, true }, false, -1, "brick 0"},
		"another is back just now":         {func(b []health.Brick) { b[4].Outdated, b[3].ReadySince = true, settled.Add(1) }, false, -1, "brick 3"},
		"that, forced":                     {func(b []health.Brick) { b[4].Outdated, b[3].ReadySince = true, settled.Add(1) }, true, -1, "brick 3"},
		"that, of another set":             {func(b []health.Brick) { b[4].Outdated, b[0].ReadySince = true, settled.Add(1) }, false, 4, ""},
		"another is back for a while":      {func(b []health.Brick) { b[4].Outdated, b[3].ReadySince = true, settled }, false, 4, ""},
		"another is healed just now":       {func(b []health.Brick) { b[4].Outdated, b[3].HealedSince = true, settled.Add(1) }, false, -1, "brick 3"},
		"it is itself":                     {func(b []health.Brick) { b[4].Outdated, b[4].HealedSince = true, settled.Add(1) }, false, -1, "brick 4"},
		"that, of another set, was healed": {func(b []health.Brick) { b[4].Outdated, b[0].HealedSince = true, settled.Add(1) }, false, 4, ""},
		"that, healed, forced":             {func(b []health.Brick) { b[4].Outdated, b[3].HealedSince = true, settled.Add(1) }, true, 4, ""},
		"another is healed for a while":    {func(b []health.Brick) { b[4].Outdated, b[3].HealedSince = true, settled }, false, 4, ""},
		"an agent is silent":               {func(b []health.Brick) { b[4].Outdated, b[0].AgentReachable = true, false }, false, -1, "agent of brick 0"},
		"one without a pod comes back new": {func(b []health.Brick) { b[4].Outdated, b[4].Online, b[4].Pod = true, false, "" }, false, -1, "brick 4"},
	} {
		d := Next(pool(test.change), test.force, settled)
		if got := d.Brick; (got == nil) != (test.brick < 0) || got != nil && got.Index != test.brick {
			t.Errorf("%s: brick %+v, want %d", name, got, test.brick)
		}
		if (d.Waits == "") != (test.waits == "") || !strings.Contains(d.Waits, test.waits) {
			t.Errorf("%s: waits for %q, want %q", name, d.Waits, test.waits)
		}
	}
}

func TestSettledBefore(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		spec schema.Spec
		want time.Duration
	}{
		"folders":                    {schema.Spec{Type: schema.Replica3, Volumes: []schema.Layout{schema.Subdirectory}}, 0},
		"block volumes":              {schema.Spec{Type: schema.Replica3, Volumes: []schema.Layout{schema.Subdirectory, schema.Block}}, 15 * time.Second},
		"a tiebreaker":               {schema.Spec{Type: schema.Replica2, Tiebreaker: &schema.Tiebreaker{}, Volumes: []schema.Layout{schema.Subdirectory}}, 30 * time.Second},
		"a tiebreaker and block too": {schema.Spec{Type: schema.Replica2, Tiebreaker: &schema.Tiebreaker{}, Volumes: []schema.Layout{schema.Block}}, 30 * time.Second},
	} {
		if got := now.Sub(SettledBefore(&test.spec, now)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}
