package volfiles

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/gluster/volfileserver"
)

// TestFilesThatCannotBeServed: a server that begins without a file would have its
// daemons fail, and one that loses a file keeps what it had. tests/podrun has daemons.
func TestFilesThatCannotBeServed(t *testing.T) {
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
		if err := s.Run(context.Background(), l); err == nil || !strings.Contains(err.Error(), "reading the volfile p") {
			t.Errorf("%s: %v", path, err)
		}
	}
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte("volume a"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Server{Files: map[string]string{"p": good}, Log: logr.Discard()}
	server := volfileserver.New(logr.Discard())
	if err := s.read(server); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	if err := s.read(server); err == nil {
		t.Error("a file that has gone is not told of")
	}
	if server.Set("p", "volume a") {
		t.Error("the volfile has gone with its file")
	}
}

// TestHold: who is let in stays so for a while, and nothing else waits.
func TestHold(t *testing.T) {
	brick := func(log string, users ...string) string {
		return "volume s\n type protocol/server\n option log-level " + log + "\n option auth.login./b.allow " + strings.Join(users, ",") + "\nend-volume\n"
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
		{other, noise, 0},               // another change does not prolong it
		{other, other, 2 * time.Minute}, // and comes with it
		{three, other, 0},
		{two, two, 0},
		{three, two, 59 * time.Minute}, // it begins anew
		{three, three, time.Hour},
		{brick("INFO", "b", "c"), brick("INFO", "b", "c"), 0}, // letting in waits for nothing
	} {
		if err := os.WriteFile(path, []byte(step.file), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, held := range s.held {
			held.since = held.since.Add(-step.pass)
			s.held[name] = held
		}
		if err := s.read(server); err != nil {
			t.Fatal(err)
		}
		if served, _ := server.Get("p"); served != step.served {
			t.Errorf("step %d: served is %s", i, served)
		}
	}
}
