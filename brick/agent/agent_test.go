package agent

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/agent"
)

var key = bytes.Repeat([]byte("k"), 32)

// newServer starts the agent of a brick on the test machine's file system, without quotas.
func newServer(t *testing.T) (*httptest.Server, *Server) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{
		"xattrop/xattrop-base", "xattrop/one", "xattrop/two", "dirty/dirty-base",
		"dirty/written-now",
	} {
		path := filepath.Join(dir, ".glusterfs/indices", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := New(Brick{Namespace: "n", Pool: "p", Position: "0", Directory: dir, Parts: 1, Port: 1}, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	a.probes = newProbes(0, 0, 0) // every request sees what the test has just done
	s := &Server{Agent: a, Keys: func() (agent.Keys, error) { return agent.Keys{key}, nil }}
	h := httptest.NewServer(s.Handler())
	t.Cleanup(h.Close)
	return h, s
}

func TestStatusAndMetrics(t *testing.T) {
	h, _ := newServer(t)
	get := func(path string) (int, string) {
		t.Helper()
		answer, err := h.Client().Get(h.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var b bytes.Buffer
		if _, err := b.ReadFrom(answer.Body); err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, b.String()
	}
	_, text := get("/metrics")
	for _, want := range []string{
		`atoll_brick_heal_backlog_entries{brick="0",index="xattrop",namespace="n",pool="p"} 2`,
		`atoll_brick_quota_enforced{brick="0",namespace="n",pool="p"} 0`, "atoll_brick_free_bytes",
		"atoll_brick_free_inodes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
	// Files that are being written do not count as backlog: otherwise a busy pool would never
	// be healed, and its bricks never restarted.
	if _, text := get("/v1/status"); !strings.Contains(text, `"backlog":2`) {
		t.Errorf("the status lacks a backlog of 2: %s", text)
	}
	if code, text := get("/healthz"); code != http.StatusOK {
		t.Errorf("health: %d %s", code, text)
	}
	if code, text := get("/readyz"); code != http.StatusServiceUnavailable { // no brick listens on port 1
		t.Errorf("ready: %d %s", code, text)
	}
}

// TestHealedSince: an agent reports for how long no heal was pending on its brick.
func TestHealedSince(t *testing.T) {
	h, s := newServer(t)
	healedFor := func() *int64 {
		t.Helper()
		var c agent.Client
		st, err := c.Status(t.Context(), strings.TrimPrefix(h.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		return st.Calm
	}
	if c := healedFor(); c != nil {
		t.Errorf("an agent without a healer reports %d seconds", *c)
	}
	s.Healer = &Healer{Agent: s.Agent, Volfile: filepath.Join(t.TempDir(), "none")}
	want := func(what string, seconds int64) {
		t.Helper()
		if c := healedFor(); c == nil || *c != seconds {
			t.Errorf("%s: %v, want %d seconds", what, c, seconds)
		}
	}
	_ = s.Healer.poll(t.Context()) // it has no volfile
	want("with pending heals", 0)
	index := filepath.Join(s.Directory, ".glusterfs/indices/xattrop")
	for _, name := range []string{"one", "two"} {
		if err := os.Remove(filepath.Join(index, name)); err != nil {
			t.Fatal(err)
		}
	}
	_ = s.Healer.poll(t.Context())
	s.Healer.healedSince = s.Healer.healedSince.Add(-40 * time.Second)
	_ = s.Healer.poll(t.Context())
	want("after 40 seconds", 40)
	if err := os.WriteFile(filepath.Join(index, "three"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want("with a new pending heal", 0)
	_ = s.Healer.poll(t.Context())
	if err := os.Remove(filepath.Join(index, "three")); err != nil {
		t.Fatal(err)
	}
	_ = s.Healer.poll(t.Context())
	want("just healed", 0)
}
