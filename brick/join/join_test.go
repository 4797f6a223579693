package join

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// volfile writes the volfile of a set of three bricks, on 127.0.0.1 to 127.0.0.3.
func volfile(t *testing.T, kind string) string {
	t.Helper()
	text := ""
	for i := range 3 {
		text += fmt.Sprintf("volume p-client-%d\n type protocol/client\n option remote-host 127.0.0.%d\n option remote-port 1\nend-volume\n", i, i+1)
	}
	path := filepath.Join(t.TempDir(), "heal.vol")
	text += "volume p-set-0\n type " + kind + "\n subvolumes p-client-0 p-client-1 p-client-2\nend-volume\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve answers as the agents of bricks 1 and 2 do; a nil one is silent.
func serve(t *testing.T, states ...*agent.Status) (port int) {
	t.Helper()
	var answers []func() *agent.Status
	for _, state := range states {
		if state == nil {
			answers = append(answers, nil)
			continue
		}
		answers = append(answers, func() *agent.Status { return state })
	}
	return serveWith(t, answers...)
}

// serveWith is serve with answers that may change.
func serveWith(t *testing.T, answers ...func() *agent.Status) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port = l.Addr().(*net.TCPAddr).Port
	for i, answer := range answers {
		if answer == nil {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(fmt.Sprintf("127.0.0.%d", i+2), strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{
			ReadHeaderTimeout: time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_ = json.NewEncoder(w).Encode(answer())
			}),
		}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { s.Close() })
	}
	return port
}

// TestBrickJoinsSet: a new brick serves once all others are new too, or once one with data
// has marked everything as pending for it; never before.
func TestBrickJoinsSet(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	const id = "this one"
	joining, has := &agent.Status{Joining: "another"}, &agent.Status{Online: true}
	noted := &agent.Status{Lacking: []string{id}}
	other := &agent.Status{Lacking: []string{"the one before"}, Founders: []string{"the one before"}}
	founder := &agent.Status{Founders: []string{id, "another"}}
	member := ondisk.Incarnation{ID: "other", Epoch: 1}
	unaware := &agent.Status{Lacking: []string{id}, Incarnation: member}
	place := ondisk.Place{Position: "0", ID: "the one before", Address: "127.0.0.9"}
	runs := &agent.Status{Online: true, Lacking: []string{id}, Former: []ondisk.Place{place}}
	for name, test := range map[string]struct {
		kind   string
		states []*agent.Status
		joins  bool
	}{
		"a new set":                          {"cluster/replicate", []*agent.Status{joining, joining}, true},
		"a new set, and one has joined":      {"cluster/replicate", []*agent.Status{joining, founder}, true},
		"a new set, and both have joined":    {"cluster/replicate", []*agent.Status{founder, founder}, true},
		"a founder is silent":                {"cluster/replicate", []*agent.Status{founder, nil}, true},
		"noted for the brick before":         {"cluster/replicate", []*agent.Status{other, other}, false},
		"new, and one is silent":             {"cluster/replicate", []*agent.Status{joining, nil}, false},
		"all are silent":                     {"cluster/replicate", []*agent.Status{nil, nil}, false},
		"another has data and has not noted": {"cluster/replicate", []*agent.Status{has, joining}, false},
		"another lacks something too":        {"cluster/replicate", []*agent.Status{other, nil}, false},
		"noted by one, the other is silent":  {"cluster/replicate", []*agent.Status{noted, nil}, false},
		"noted by one of two":                {"cluster/replicate", []*agent.Status{has, noted}, false},
		"noted by one, the other is stopped": {"cluster/replicate", []*agent.Status{{}, noted}, false},
		"noted by both, one is unaware":      {"cluster/replicate", []*agent.Status{noted, unaware}, false},
		"noted by both":                      {"cluster/replicate", []*agent.Status{noted, noted}, true},
		"noted, the one before still runs":   {"cluster/replicate", []*agent.Status{noted, runs}, false},
		"coded, the one before still runs":   {"cluster/disperse", []*agent.Status{has, runs}, false},
		"coded, all are silent":              {"cluster/disperse", []*agent.Status{nil, nil}, false},
		"coded, one is silent":               {"cluster/disperse", []*agent.Status{nil, has}, false},
		"coded, and both have data":          {"cluster/disperse", []*agent.Status{has, has}, true},
		"coded, and one is unaware":          {"cluster/disperse", []*agent.Status{has, unaware}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			own := filepath.Join(dir, ondisk.GlusterDir)
			if err := os.Mkdir(own, 0o700); err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{ondisk.JoiningAttribute: id, ondisk.FreshAttribute: "1"} {
				if err := unix.Setxattr(own, name, []byte(value), 0); err != nil {
					t.Skipf("the directory for temporary files does not support trusted attributes: %v", err)
				}
			}
			b := Brick{
				Pool: "p", Position: "0", Directory: dir, Volfile: volfile(t, test.kind),
				AgentPort: serve(t, test.states...), Log: logr.Discard(),
			}
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			err := b.Run(ctx)
			if joins := err == nil; joins != test.joins || err != nil && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("joins: %v, %v", joins, err)
			}
			_, err = unix.Getxattr(own, ondisk.JoiningAttribute, nil)
			if marked := err == nil; marked == test.joins {
				t.Errorf("still marked as joining: %v", marked)
			}
			_, err = unix.Getxattr(own, ondisk.FreshAttribute, nil)
			if fresh, founds := err == nil, strings.HasPrefix(name, "a "); fresh == founds {
				t.Errorf("still marked as fresh: %v", fresh)
			}
			if test.joins { // running again succeeds
				b.AgentPort = serve(t, has, has)
				if err := b.Run(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
