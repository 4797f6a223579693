package volfiles

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/gluster/volfileserver"
)

// TestUnreadableVolfiles: a server refuses to start without a file, since its daemons would
// fail, and keeps the last content of a file that disappears. tests/pods runs real daemons.
func TestUnreadableVolfiles(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, make([]byte, maxVolfile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), long, empty, dir} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := Server{Files: map[string]string{"p": path}, Log: logr.Discard()}
		if err := s.Run(context.Background(), l); err == nil || !strings.Contains(err.Error(), "read volfile p") {
			t.Errorf("%s: %v", path, err)
		}
	}
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte("volume a"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Server{Files: map[string]string{"p": good}, Log: logr.Discard()}
	server := volfileserver.New(logr.Discard())
	if err := s.readAll(server); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	if err := s.readAll(server); err == nil {
		t.Error("a missing file is not reported")
	}
	if server.Set("p", "volume a") {
		t.Error("the volfile was dropped with its file")
	}
}

// TestHoldsBackRefusals: a change that refuses admitted clients waits; other changes do not.
func TestHoldsBackRefusals(t *testing.T) {
	brick := func(log string, users ...string) string {
		return "volume s\n type protocol/server\n option log-level " + log + "\n option auth.login./b.allow " +
			strings.Join(users, ",") + "\nend-volume\n"
	}
	one, two, three := brick("INFO", "a", "b", "c"), brick("INFO", "b", "c"), brick("INFO", "c")
	other, noise := brick("DEBUG", "b", "c"), brick("DEBUG", "a", "b", "c")
	path := filepath.Join(t.TempDir(), "v")
	s := Server{Files: map[string]string{"p": path}, Hold: time.Hour, Log: logr.Discard()}
	server := volfileserver.New(logr.Discard())
	for i, step := range []struct {
		file, served string
		pass         time.Duration // before it is read
	}{
		{one, one, 0},
		{noise, noise, 0},
		{two, noise, 0},
		{two, noise, 59 * time.Minute},
		{other, noise, 0},               // another change does not extend the wait
		{other, other, 2 * time.Minute}, // and is served with it
		{three, other, 0},
		{two, two, 0},
		{three, two, 59 * time.Minute}, // the wait starts again
		{three, three, time.Hour},
		{brick("INFO", "b", "c"), brick("INFO", "b", "c"), 0}, // admitting more clients does not wait
	} {
		if err := os.WriteFile(path, []byte(step.file), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, held := range s.heldBack {
			held.since = held.since.Add(-step.pass)
			s.heldBack[name] = held
		}
		if err := s.readAll(server); err != nil {
			t.Fatal(err)
		}
		if served, _ := server.Get("p"); served != step.served {
			t.Errorf("step %d: served is %s", i, served)
		}
	}
}

// TestReplacedBrickIsWithdrawn: once the brick of the pod was replaced, no daemon gets a volfile.
func TestReplacedBrickIsWithdrawn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	if err := os.WriteFile(path, []byte("volume a"), 0o600); err != nil {
		t.Fatal(err)
	}
	reason, err := "", errors.New("the agent has not started")
	s := Server{
		Files: map[string]string{"p": path}, Log: logr.Discard(),
		Replaced: func(context.Context) (string, error) { return reason, err },
	}
	server := volfileserver.New(logr.Discard())
	for _, step := range []struct {
		reason string
		err    error
		want   bool
	}{{"", err, false}, {"", nil, false}, {"it is old", nil, true}, {"", err, true}} {
		reason, err = step.reason, step.err
		s.withdraw(t.Context(), server)
		if server.Withdrawn() != step.want {
			t.Errorf("reason %q, error %v: withdrawn is %t", reason, err, !step.want)
		}
	}
}
