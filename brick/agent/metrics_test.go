package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/brick/supervise"
)

// TestGaugesAreDocumented checks that docs/bricks.md lists every gauge.
func TestGaugesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/bricks.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range gauges {
		if !strings.Contains(string(text), "`"+g.name+"`") {
			t.Errorf("docs/bricks.md does not list %s", g.name)
		}
	}
}

// TestRecentCrashes: the status tells of crashes for an hour, and of what it can read.
func TestRecentCrashes(t *testing.T) {
	dir := t.TempDir()
	write := func(r supervise.Record) {
		t.Helper()
		text, err := json.Marshal(r)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, r.Daemon+".crashes.json"), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(supervise.Record{Daemon: "calm"})
	write(supervise.Record{Daemon: "glusterfsd", Crashes: 3, Last: time.Now().Add(-time.Minute), Reason: "killed"})
	write(supervise.Record{Daemon: "once", Crashes: 1, Last: time.Now().Add(-2 * time.Hour), Reason: "killed"})
	s := &Server{Agent: &Agent{Log: logr.Discard()}, Records: dir}
	if all := s.recentCrashes(); len(all) != 1 || all[0].Daemon != "glusterfsd" || all[0].Count != 3 {
		t.Errorf("crashes %+v", all)
	}
	if all := (&Server{Agent: s.Agent}).recentCrashes(); all != nil {
		t.Errorf("without records: %+v", all)
	}
}
