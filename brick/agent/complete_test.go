package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// answer serves a status as the agent of the brick at 127.0.0.<host> does.
func answer(t *testing.T, host, port int, state agent.Status) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(fmt.Sprintf("127.0.0.%d", host), strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		ReadHeaderTimeout: time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(state)
		}),
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
}

// freePort is a port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestBrickIsComplete: a brick counts as complete unless another one says that it lacks something.
func TestBrickIsComplete(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	volfile := func(kind string, hosts ...string) string {
		text, names := "", ""
		for i, name := range hosts {
			text += fmt.Sprintf("volume %s\n type protocol/client\n option remote-host 127.0.0.%d\n"+
				" option remote-port 1\nend-volume\n", name, i+1)
			names += " " + name
		}
		return text + "volume p-set-0\n type " + kind + "\n subvolumes" + names + "\nend-volume\n"
	}
	replicas := volfile("cluster/replicate", "p-client-0", "p-client-1", "p-client-2")
	pair := volfile("cluster/replicate", "p-client-0", "p-client-1", "p-ta-2")
	lacks := agent.Status{Brick: "2", Blames: []string{"0", "1"}}
	settled, unsettled := int64(31), int64(5)
	good := agent.Status{Brick: "1", Calm: &settled}
	for name, test := range map[string]struct {
		volfile string
		states  []agent.Status // of bricks 1 and 2
		fresh   bool
		want    error
	}{
		"nothing is pending":        {replicas, []agent.Status{good, good}, false, nil},
		"one lacks another":         {replicas, []agent.Status{good, {Brick: "2", Blames: []string{"1"}}}, false, nil},
		"it lacks something":        {replicas, []agent.Status{good, lacks}, false, ErrIncomplete},
		"nobody answers":            {replicas, nil, false, nil},
		"it is new":                 {replicas, []agent.Status{good, good}, true, ErrIncomplete},
		"healed, not settled":       {pair, []agent.Status{{Brick: "1", Calm: &unsettled}}, false, ErrIncomplete},
		"healed and settled":        {pair, []agent.Status{good}, false, nil},
		"three need not be settled": {replicas, []agent.Status{{Brick: "1", Calm: &unsettled}, good}, false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, s := newServer(t)
			h := &Healer{Agent: s.Agent, Volfile: filepath.Join(t.TempDir(), "heal.vol"), AgentPort: freePort(t)}
			if err := os.WriteFile(h.Volfile, []byte(test.volfile), 0o600); err != nil {
				t.Fatal(err)
			}
			for i, state := range test.states {
				answer(t, i+2, h.AgentPort, state)
			}
			if test.fresh {
				own := filepath.Join(s.Directory, ondisk.GlusterDir)
				if err := unix.Setxattr(own, ondisk.FreshAttribute, []byte("1"), 0); err != nil {
					t.Skipf("the directory for temporary files does not support trusted attributes: %v", err)
				}
			}
			if err := h.checkComplete(context.Background()); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

// TestBrickSettles: a brick that was offline is not complete before clients have had time to
// connect to it.
func TestBrickSettles(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	_, s := newServer(t)
	b, err := s.openIdentity()
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h := &Healer{Agent: s.Agent, SettleFor: SettleFor}
	if err := h.checkSettled(); err != nil {
		t.Errorf("a brick that never started: %v", err)
	}
	h.ownWasAway = true
	if err := h.checkSettled(); err == nil {
		t.Error("a brick whose process is restarted counts as complete at once")
	}
	h.ownWasAway, h.ownSince = false, time.Now().Add(-time.Hour)
	h.noteIsolated([]agent.Status{{Online: true}, {}})
	if err := h.checkSettled(); err != nil {
		t.Errorf("a brick that was never cut off: %v", err)
	}
	h.noteIsolated([]agent.Status{{}, {}})
	if err := h.checkSettled(); err != nil {
		t.Errorf("while the others may be down: %v", err)
	}
	h.noteIsolated([]agent.Status{{}, {Online: true}})
	if err := h.checkSettled(); err == nil {
		t.Error("a brick that was cut off counts as complete at once")
	}
	h.ownWasAway = false
	for start, settled := range map[uint64]map[time.Duration]bool{
		1: {0: true, time.Second: true},                      // nobody can have lost it
		2: {0: false, time.Second: false, time.Minute: true}, // 0: offline
	} {
		if err := b.SetIncarnation(ondisk.Incarnation{ID: "x", Epoch: 1, Start: start}); err != nil {
			t.Skipf("the directory for temporary files does not support trusted attributes: %v", err)
		}
		for online, want := range settled {
			h.ownSince = time.Time{}
			if online > 0 {
				h.ownSince = time.Now().Add(-online)
			}
			if err := h.checkSettled(); (err == nil) != want {
				t.Errorf("start %d, online for %s: %v", start, online, err)
			}
		}
	}
}

// TestBlames: a brick names the bricks for which it has pending counters.
func TestBlames(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	_, s := newServer(t)
	entry := func(counters map[string]uint32) {
		t.Helper()
		id := uuid.New()
		path := filepath.Join(s.Directory, gfidPath(id))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, filepath.Join(s.Directory, indices, "xattrop", id.String())} {
			if err := os.WriteFile(name, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Setxattr(path, gfidAttribute, id[:], 0); err != nil {
			t.Skipf("the directory for temporary files does not support trusted attributes: %v", err)
		}
		for client, n := range counters {
			value := binary.BigEndian.AppendUint32(make([]byte, 8), n) // entries
			if err := unix.Setxattr(path, ondisk.PendingAttribute+client, value, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if all, err := s.blames(); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
	entry(map[string]uint32{"p-client-1": 0, "other-client-2": 7})
	if all, err := s.blames(); err != nil || len(all) > 0 {
		t.Errorf("%v, %v", all, err)
	}
	entry(map[string]uint32{"p-client-2": 1, "p-client-1": 0})
	entry(map[string]uint32{"p-client-2": 1})
	entry(map[string]uint32{"p-client-1": 3})
	if all, err := s.blames(); err != nil || !slices.Equal(all, []string{"1", "2"}) {
		t.Errorf("%v, %v", all, err)
	}
}
