package agent

import (
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// TestReplacedIsNoted: a brick notes that it was replaced when one of its set says so, and only then.
func TestReplacedIsNoted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	own := ondisk.Incarnation{ID: "own", Epoch: 1, Start: 2, Nonce: "2"}
	knows := func(i ondisk.Incarnation) agent.Status {
		return agent.Status{Brick: "1", Members: ondisk.Members{"0": i}}
	}
	again := own
	again.Start++
	newer := knows(ondisk.Incarnation{ID: "other", Epoch: 2, Start: 1})
	joining := newer
	joining.Joining = "x"
	for name, test := range map[string]struct {
		states []agent.Status
		want   bool
	}{
		"nobody answers":                     {[]agent.Status{{}, {}}, false},
		"it is known":                        {[]agent.Status{knows(own), {}}, false},
		"an older one is known":              {[]agent.Status{knows(ondisk.Incarnation{ID: "old"}), {}}, false},
		"a newer one is known":               {[]agent.Status{{}, newer}, true},
		"one says so that has not joined":    {[]agent.Status{joining}, false},
		"it is a copy, and another runs now": {[]agent.Status{knows(again)}, true},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := newServer(t)
			b, err := s.openIdentity()
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if err := b.SetIncarnation(own); err != nil {
				t.Fatal(err)
			}
			if err := (&Healer{Agent: s.Agent}).noteReplaced(test.states); err != nil {
				t.Fatal(err)
			}
			if reason, err := b.Replaced(); err != nil || (reason != "") != test.want {
				t.Errorf("noted: %q, %v", reason, err)
			}
		})
	}
}

// TestFormersAreWatched: a brick that was replaced is reported until it has ended, or was not
// found for a while, and forgotten when the new one has joined.
func TestFormersAreWatched(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	_, s := newServer(t)
	h := &Healer{Agent: s.Agent, AgentPort: freePort(t)}
	others := []gluster.HealBrick{{Name: "p-client-1", Port: strconv.Itoa(freePort(t))}, {Name: "p-ta-2"}}
	watch := func(state agent.Status, want int) {
		t.Helper()
		if err := h.watchFormers(t.Context(), others, []agent.Status{state, {}}); err != nil {
			t.Fatal(err)
		}
		if err := h.rememberMembers(others, []agent.Status{state, {}}); err != nil {
			t.Fatal(err)
		}
		if got := h.formers(); len(got) != want || want > 0 && got[0].ID != "a" {
			t.Errorf("%+v: reported %v", state, got)
		}
	}
	one, two := ondisk.Incarnation{ID: "a", Epoch: 1, Start: 1}, ondisk.Incarnation{ID: "b", Epoch: 2, Start: 1}
	first := agent.Status{Brick: "1", Incarnation: one, Address: "127.0.0.9"}
	second := agent.Status{Brick: "1", Incarnation: two, Address: "127.0.0.8", Joining: "x"}
	watch(first, 0)
	answer(t, 9, h.AgentPort, first)
	silent := silentPort(t, "127.0.0.9:"+others[0].Port)
	watch(second, 1) // its agent is there, and its brick does not answer
	watch(second, 1)
	h.formerSeenAt["a"] = time.Now().Add(-formerSilence - time.Second)
	watch(second, 0)
	h.formerSeenAt["a"] = time.Now()
	watch(second, 1)
	silent.Close() // the port is closed: the brick has ended
	watch(second, 0)
	second.Joining = ""
	watch(second, 0)
	b, err := s.openIdentity()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if places, err := b.Places(); err != nil || len(places) != 1 || places[0].ID != "b" {
		t.Errorf("places: %v, %v", places, err)
	}
}

// silentPort listens and never answers, as a brick that hangs.
func silentPort(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestNoMarksWhileFormerServes: nothing is marked as pending for a new brick while the one that it
// replaces may serve.
func TestNoMarksWhileFormerServes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	_, s := newServer(t)
	h := &Healer{Agent: s.Agent}
	others := []gluster.HealBrick{{Name: "p-client-1"}}
	sets := gluster.Healers{{Disperse: true}} // clients of such a set know all bricks
	for _, step := range []struct {
		former ondisk.Places
		want   string
	}{
		{ondisk.Places{{Position: "1", ID: "a", Address: "127.0.0.9"}}, ""},
		{ondisk.Places{{Position: "2", ID: "c", Address: "127.0.0.9"}}, "x"},
	} {
		h.former = step.former
		if err := h.markJoining(t.Context(), sets, others, []agent.Status{{Joining: "x"}}); err != nil {
			t.Fatal(err)
		}
		if got := h.markedAs("p-client-1"); got != step.want {
			t.Errorf("former %v: marked for %q", step.former, got)
		}
	}
}
