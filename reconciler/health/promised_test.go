package health

import (
	"testing"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/schema"
)

// TestPromised adds up what agents tell: folders once, blocks by sets.
func TestPromised(t *testing.T) {
	brick := func(online bool, folders, blocks int64) Brick {
		return Brick{BrickStatus: v1alpha1.BrickStatus{Online: online}, AgentReachable: true, Promised: &agent.Promised{Folders: folders, Blocks: blocks}}
	}
	old := Brick{BrickStatus: v1alpha1.BrickStatus{Online: true}, AgentReachable: true} // its agent does not tell
	const unknown = -1
	for name, test := range map[string]struct {
		bricks []Brick
		want   int64
	}{
		"one set":                         {[]Brick{brick(true, 5, 10), brick(true, 5, 10)}, 15},
		"nothing":                         {[]Brick{brick(true, 0, 0), brick(true, 0, 0)}, 0},
		"two sets":                        {[]Brick{brick(true, 5, 10), brick(true, 5, 10), brick(true, 5, 20), brick(true, 5, 20)}, 35},
		"a brick is new":                  {[]Brick{brick(true, 5, 10), brick(true, 0, 0)}, 15},
		"a set lacks records":             {[]Brick{brick(true, 5, 10), brick(true, 5, 10), brick(true, 1, 0), brick(true, 1, 0)}, 15},
		"a brick away has what was":       {[]Brick{brick(false, 50, 100), brick(true, 5, 10)}, 15},
		"an agent does not tell":          {[]Brick{old, brick(true, 5, 10)}, 15},
		"no agent of a set tells":         {[]Brick{brick(true, 5, 10), brick(true, 5, 10), old, {}}, unknown},
		"no agent of the first set tells": {[]Brick{old, {}, brick(true, 5, 10), brick(true, 5, 10)}, unknown},
	} {
		pool := &schema.Pool{}
		pool.Spec.Type = schema.Replica2
		var s v1alpha1.PoolStatus
		Fill(&s, pool, test.bricks)
		switch {
		case test.want == unknown && s.PromisedBytes != nil, test.want != unknown && (s.PromisedBytes == nil || *s.PromisedBytes != test.want):
			t.Errorf("%s: %v", name, s.PromisedBytes)
		}
		before := int64(77)
		s.PromisedBytes = &before
		if Fill(&s, pool, test.bricks); test.want == unknown && (s.PromisedBytes == nil || *s.PromisedBytes != 77) {
			t.Errorf("%s: what was known is forgotten: %v", name, s.PromisedBytes)
		}
	}
}
