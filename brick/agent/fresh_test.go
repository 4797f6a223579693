package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// TestFreshUntilProven: a new brick counts as complete only when it has joined and each of the
// others has said that no heals are pending.
func TestFreshUntilProven(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	others := []gluster.HealBrick{{Name: "p-client-1"}, {Name: "p-ta-2"}}
	healed := agent.Status{Brick: "1", Online: true}
	tiebreaker, joining := agent.Status{Online: true}, agent.Status{Brick: "1", Online: true, Joining: "x"}
	for name, test := range map[string]struct {
		states  []agent.Status
		joining bool
		clears  bool
	}{
		"healed":                    {[]agent.Status{healed, tiebreaker}, false, true},
		"before it has joined":      {[]agent.Status{healed, tiebreaker}, true, false},
		"heals are pending":         {[]agent.Status{{Brick: "1", Online: true, Backlog: 1}, tiebreaker}, false, false},
		"an agent does not answer":  {[]agent.Status{{Online: true}, tiebreaker}, false, false},
		"a brick is offline":        {[]agent.Status{{Brick: "1"}, tiebreaker}, false, false},
		"the tiebreaker is offline": {[]agent.Status{healed, {}}, false, false},
		"another joins":             {[]agent.Status{joining, tiebreaker}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := newServer(t)
			own := filepath.Join(s.Directory, ondisk.GlusterDir)
			if err := unix.Setxattr(own, ondisk.FreshAttribute, []byte("1"), 0); err != nil {
				t.Skipf("the directory for temporary files does not support trusted attributes: %v", err)
			}
			if test.joining {
				if err := unix.Setxattr(own, ondisk.JoiningAttribute, []byte("x"), 0); err != nil {
					t.Fatal(err)
				}
			}
			h := &Healer{Agent: s.Agent, FreshFor: FreshFor, freshSince: time.Now().Add(-2 * FreshFor)}
			if err := h.clearFresh(others, test.states); err != nil {
				t.Fatal(err)
			}
			if clears := !s.hasMark(ondisk.FreshAttribute); clears != test.clears {
				t.Errorf("the mark is cleared: %v", clears)
			}
		})
	}
}

// TestMembersAreRemembered: a brick notes the newest incarnations of its set, and nothing older.
func TestMembersAreRemembered(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	_, s := newServer(t)
	h := &Healer{Agent: s.Agent}
	others := []gluster.HealBrick{{Name: "p-client-1"}, {Name: "p-ta-2"}}
	see := func(i ondisk.Incarnation) ondisk.Incarnation {
		t.Helper()
		if err := h.rememberMembers(others, []agent.Status{{Incarnation: i}, {}}); err != nil {
			t.Fatal(err)
		}
		_, all := s.members()
		return all["1"]
	}
	first := ondisk.Incarnation{ID: "a", Epoch: 1, Start: 9, Nonce: "9"}
	again := ondisk.Incarnation{ID: "a", Epoch: 1, Start: 10, Nonce: "10"}
	second := ondisk.Incarnation{ID: "b", Epoch: 2, Start: 1, Nonce: "1"}
	for i, step := range []struct{ seen, want ondisk.Incarnation }{
		{ondisk.Incarnation{}, ondisk.Incarnation{}}, // it does not answer, or is of a version before
		{first, first},
		{again, again},
		{first, again}, // an earlier copy
		{second, second},
		{again, second}, // the former brick is back
		{ondisk.Incarnation{}, second},
	} {
		if got := see(step.seen); got != step.want {
			t.Errorf("step %d: %+v, want %+v", i, got, step.want)
		}
	}
}

// TestSplitsAreKept: the number of entries in split-brain does not change while a brick of the set
// does not say whom it blames.
func TestSplitsAreKept(t *testing.T) {
	_, s := newServer(t)
	h := &Healer{Agent: s.Agent, Keys: s.Keys, AgentPort: freePort(t), splits: 3}
	h.countSplits(t.Context(), []gluster.HealBrick{{Name: "p-client-1", Host: "127.0.0.1"}}, 1)
	if n := h.Splits(); n != 3 {
		t.Errorf("%d entries, want 3", n)
	}
	h.countSplits(t.Context(), nil, 0)
	if n := h.Splits(); n != 0 {
		t.Errorf("%d entries when no heal is pending", n)
	}
}
