package join

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/brick/identity"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// newMember is a brick at position 0 that has served before as this incarnation. It has seen the
// first incarnations of its set.
func newMember(t *testing.T, own ondisk.Incarnation) (*Brick, identity.Brick) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ondisk.GlusterDir), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(dir, ondisk.GlusterDir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	stored := identity.Brick{File: f}
	members := ondisk.Members{"1": {ID: "one", Epoch: 1}, "2": {ID: "two", Epoch: 1}}
	if err := errors.Join(stored.SetIncarnation(own), stored.SetMembers(members)); err != nil {
		t.Skipf("the directory for temporary files does not support trusted attributes: %v", err)
	}
	return &Brick{
		Pool: "p", Position: "0", Directory: dir, Log: logr.Discard(), Volfile: volfile(t, "cluster/replicate"),
		confirmAll: time.Nanosecond, confirmOne: time.Nanosecond,
	}, stored
}

// TestBrickIsConfirmed: a brick that has served before serves again only if no brick of its set
// knows a newer one of its position.
func TestBrickIsConfirmed(t *testing.T) {
	own := ondisk.Incarnation{ID: "own", Epoch: 2, Start: 7, Nonce: "7"}
	knows := func(one ondisk.Incarnation) *agent.Status {
		return &agent.Status{Online: true, Members: ondisk.Members{"0": one}}
	}
	fresh := knows(own)
	fresh.Fresh = true
	joining := &agent.Status{Joining: "x", Incarnation: ondisk.Incarnation{ID: "x", Epoch: 9}}
	replaced := &agent.Status{Online: true, Incarnation: ondisk.Incarnation{ID: "former", Epoch: 1}}
	earlier, before := ondisk.Incarnation{ID: "own", Epoch: 2, Start: 6}, ondisk.Incarnation{ID: "before", Epoch: 1}
	former, newer := &agent.Status{}, ondisk.Incarnation{ID: "new", Epoch: 3}
	for name, test := range map[string]struct {
		states []*agent.Status
		want   error // context.DeadlineExceeded: it waits
	}{
		"known to both":           {[]*agent.Status{knows(own), knows(own)}, nil},
		"known to one":            {[]*agent.Status{nil, knows(own)}, nil},
		"the others are behind":   {[]*agent.Status{knows(before), knows(own)}, nil},
		"an earlier start":        {[]*agent.Status{knows(earlier), nil}, nil},
		"all are silent":          {[]*agent.Status{nil, nil}, context.DeadlineExceeded},
		"known to an empty one":   {[]*agent.Status{fresh, nil}, context.DeadlineExceeded},
		"the others join":         {[]*agent.Status{joining, joining}, nil},
		"one joins":               {[]*agent.Status{joining, nil}, context.DeadlineExceeded},
		"of a version before":     {[]*agent.Status{former, nil}, nil},
		"replaced":                {[]*agent.Status{knows(newer), knows(own)}, ondisk.ErrReplaced},
		"replaced, one is silent": {[]*agent.Status{nil, knows(newer)}, ondisk.ErrReplaced},
		"replaced at once":        {[]*agent.Status{nil, knows(ondisk.Incarnation{ID: "new", Epoch: 2})}, ondisk.ErrReplaced},
		"restored from a copy": {
			[]*agent.Status{knows(own), knows(ondisk.Incarnation{ID: "own", Epoch: 2, Start: 8, Nonce: "8"})},
			ondisk.ErrRolledBack,
		},
		"cloned": {
			[]*agent.Status{knows(own), knows(ondisk.Incarnation{ID: "own", Epoch: 2, Start: 7, Nonce: "x"})},
			ondisk.ErrCloned,
		},
		"beside a replaced one": {[]*agent.Status{replaced, knows(own)}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			b, stored := newMember(t, own)
			var states []*agent.Status
			for i, s := range test.states {
				if s != nil && s.Incarnation.ID == "" && s.Members != nil {
					member := *s
					member.Incarnation = ondisk.Incarnation{ID: []string{"one", "two"}[i], Epoch: 1}
					s = &member
				}
				states = append(states, s)
			}
			b.AgentPort = serve(t, states...)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := b.Run(ctx)
			refused := test.want != nil && !errors.Is(test.want, context.DeadlineExceeded)
			if !errors.Is(err, test.want) || errors.Is(err, ErrStale) != refused {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if now, err := stored.Incarnation(); err != nil || now.Start != own.Start+1 || now.ID != own.ID {
				t.Errorf("incarnation %+v, %v", now, err)
			}
		})
	}
}

// TestBrickWaitsLong: the others learn of a start while the brick waits for one of them, as when all
// nodes boot after a power failure.
func TestBrickWaitsLong(t *testing.T) {
	b, stored := newMember(t, ondisk.Incarnation{ID: "own", Epoch: 1, Start: 7, Nonce: "7"})
	b.confirmAll = 2 * pollEvery
	state := &agent.Status{Online: true, Incarnation: ondisk.Incarnation{ID: "one", Epoch: 1}}
	b.AgentPort = serveWith(t, func() *agent.Status {
		now, err := stored.Incarnation()
		if err != nil {
			t.Error(err)
		}
		state.Members = ondisk.Members{"0": now}
		return state
	}, nil)
	if err := b.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestBrickOfFormerVersion: a brick without incarnation gets one, unless its set knows another.
func TestBrickOfFormerVersion(t *testing.T) {
	b, stored := newMember(t, ondisk.Incarnation{})
	b.AgentPort = serve(t, &agent.Status{}, &agent.Status{Incarnation: ondisk.Incarnation{ID: "two", Epoch: 1}})
	if err := b.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if now, err := stored.Incarnation(); err != nil || now.ID == "" || now.Epoch != 1 {
		t.Errorf("incarnation %+v, %v", now, err)
	}
	b, _ = newMember(t, ondisk.Incarnation{})
	b.AgentPort = serve(t, &agent.Status{}, &agent.Status{
		Incarnation: ondisk.Incarnation{ID: "two", Epoch: 1}, Members: ondisk.Members{"0": {ID: "new", Epoch: 1}},
	})
	if err := b.Run(t.Context()); !errors.Is(err, ErrStale) {
		t.Errorf("the brick was replaced: %v", err)
	}
}

// TestReplacementLearns: a new brick gets the epoch after the one that it replaces, and knows the
// others of its set once it has joined.
func TestReplacementLearns(t *testing.T) {
	b, stored := newMember(t, ondisk.Incarnation{})
	if err := stored.SetMembers(ondisk.Members{}); err != nil {
		t.Fatal(err)
	}
	const id = "joins"
	if err := unix.Fsetxattr(int(stored.Fd()), ondisk.JoiningAttribute, []byte(id), 0); err != nil {
		t.Fatal(err)
	}
	others := [2]ondisk.Incarnation{{ID: "one", Epoch: 4, Start: 3}, {ID: "two", Epoch: 1, Start: 2}}
	state := func(i int, known ondisk.Incarnation) *agent.Status {
		return &agent.Status{
			Online: true, Lacking: []string{id}, Incarnation: others[i],
			Members: ondisk.Members{"0": known},
		}
	}
	former := ondisk.Incarnation{ID: "former", Epoch: 2, Start: 40}
	b.AgentPort = serve(t, state(0, former), state(1, ondisk.Incarnation{}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := b.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it does not wait until the others know it: %v", err)
	}
	now, err := stored.Incarnation()
	if err != nil || now.Epoch != 3 {
		t.Errorf("incarnation %+v, %v", now, err)
	}
	b.AgentPort = serve(t, state(0, now), state(1, now))
	if err := b.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if all, err := stored.Members(); err != nil || all["1"] != others[0] || all["2"] != others[1] {
		t.Errorf("members %+v, %v", all, err)
	}
}
