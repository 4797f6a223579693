package health

import (
	"testing"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/reconciler/api/v1alpha1"
	"github.com/atoll-storage/atoll/schema"
)

// TestProvisioned adds up the sums of the agents: subdirectory volumes once, block volumes by set.
func TestProvisioned(t *testing.T) {
	brick := func(online bool, folders, blocks int64) Brick {
		return Brick{
			BrickStatus: v1alpha1.BrickStatus{Online: online}, AgentReachable: true,
			Promised: &agent.Promised{Folders: folders, Blocks: blocks},
		}
	}
	// The agent of an old version does not report the sum.
	old := Brick{BrickStatus: v1alpha1.BrickStatus{Online: true}, AgentReachable: true}
	const unknown = -1
	for name, test := range map[string]struct {
		bricks []Brick
		want   int64
	}{
		"one set":    {[]Brick{brick(true, 5, 10), brick(true, 5, 10)}, 15},
		"no volumes": {[]Brick{brick(true, 0, 0), brick(true, 0, 0)}, 0},
		"two sets": {[]Brick{
			brick(true, 5, 10), brick(true, 5, 10), brick(true, 5, 20), brick(true, 5, 20),
		}, 35},
		"a new brick": {[]Brick{brick(true, 5, 10), brick(true, 0, 0)}, 15},
		"a set that lacks records": {[]Brick{
			brick(true, 5, 10), brick(true, 5, 10), brick(true, 1, 0), brick(true, 1, 0),
		}, 15},
		"an offline brick with old records": {[]Brick{brick(false, 50, 100), brick(true, 5, 10)}, 15},
		"an agent without the sum":          {[]Brick{old, brick(true, 5, 10)}, 15},
		"no sum from the second set":        {[]Brick{brick(true, 5, 10), brick(true, 5, 10), old, {}}, unknown},
		"no sum from the first set":         {[]Brick{old, {}, brick(true, 5, 10), brick(true, 5, 10)}, unknown},
	} {
		pool := &schema.Pool{}
		pool.Spec.Type = schema.Replica2
		var s v1alpha1.PoolStatus
		Fill(&s, pool, test.bricks)
		got := int64(unknown)
		if s.PromisedBytes != nil {
			got = *s.PromisedBytes
		}
		if got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
		last := int64(77)
		s.PromisedBytes = &last
		if Fill(&s, pool, test.bricks); test.want == unknown && (s.PromisedBytes == nil || *s.PromisedBytes != 77) {
			t.Errorf("%s: the last known sum was replaced by %v", name, s.PromisedBytes)
		}
	}
}
