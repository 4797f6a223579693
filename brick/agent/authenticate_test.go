package agent

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/atoll-storage/atoll/internal/agent"
)

// tokenFor signs a request to the server's brick.
func tokenFor(t *testing.T, keys agent.Keys, q agent.Request, at time.Time) string {
	t.Helper()
	token, err := keys.Sign(q, at)
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + token
}

// signedRequest is an authenticated request.
func signedRequest(t *testing.T, url string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", tokenFor(t, agent.Keys{key},
		agent.Request{Audience: "n/p/0", Method: r.Method, Path: r.URL.Path, Body: body}, time.Now()))
	return r
}

// answerTo sends a request with an Authorization header, and returns the status code.
func answerTo(t *testing.T, h *httptest.Server, method, path, authorization string, body []byte) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", authorization)
	answer, err := h.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// TestRequestsAreAuthenticated: a request without a valid token changes nothing.
func TestRequestsAreAuthenticated(t *testing.T) {
	h, s := newServer(t)
	body := []byte(`{"folder":"subvol/aa/bb/v","bytes":1048576}`)
	limit := agent.Request{Audience: "n/p/0", Method: http.MethodPost, Path: agent.PathLimit, Body: body}
	keys, other := agent.Keys{key}, agent.Keys{bytes.Repeat([]byte("x"), 32)}
	used := tokenFor(t, keys, limit, time.Now())
	if code := answerTo(t, h, http.MethodPost, agent.PathLimit, used, body); code != http.StatusOK {
		t.Errorf("good: %d", code)
	}
	withBody := func(text string) (agent.Request, []byte) {
		q := limit
		q.Body = []byte(text)
		return q, q.Body
	}
	outside, outsideBody := withBody(`{"folder":"../x","bytes":1}`)
	whole, wholeBody := withBody(`{"folder":".","bytes":1}`)
	sizeless, sizelessBody := withBody(`{"folder":"a"}`)
	elsewhere, get, path := limit, limit, limit
	elsewhere.Audience, get.Method, path.Path = "n/p/1", http.MethodGet, agent.PathPending
	for name, test := range map[string]struct {
		authorization string
		body          []byte
		code          int
	}{
		"missing":       {"", body, http.StatusUnauthorized},
		"used":          {used, body, http.StatusUnauthorized},
		"wrong key":     {tokenFor(t, other, limit, time.Now()), body, http.StatusUnauthorized},
		"expired":       {tokenFor(t, keys, limit, time.Now().Add(-time.Hour)), body, http.StatusUnauthorized},
		"before start":  {tokenFor(t, keys, limit, time.Now().Add(-20*time.Second)), body, http.StatusUnauthorized},
		"other brick":   {tokenFor(t, keys, elsewhere, time.Now()), body, http.StatusUnauthorized},
		"other method":  {tokenFor(t, keys, get, time.Now()), body, http.StatusUnauthorized},
		"other path":    {tokenFor(t, keys, path, time.Now()), body, http.StatusUnauthorized},
		"other request": {tokenFor(t, keys, limit, time.Now()), outsideBody, http.StatusUnauthorized},
		"outside":       {tokenFor(t, keys, outside, time.Now()), outsideBody, http.StatusBadRequest},
		"whole brick":   {tokenFor(t, keys, whole, time.Now()), wholeBody, http.StatusBadRequest},
		"no size":       {tokenFor(t, keys, sizeless, time.Now()), sizelessBody, http.StatusBadRequest},
		"endless body": {
			tokenFor(t, keys, limit, time.Now()), bytes.Repeat([]byte("x"), maxBody+1),
			http.StatusBadRequest,
		},
		"garbled header": {"Basic x", body, http.StatusUnauthorized},
	} {
		if code := answerTo(t, h, http.MethodPost, agent.PathLimit, test.authorization, test.body); code != test.code {
			t.Errorf("%s: %d, want %d", name, code, test.code)
		}
	}
	good := tokenFor(t, keys, limit, time.Now())
	s.Keys = func() (agent.Keys, error) { return nil, nil }
	if code := answerTo(t, h, http.MethodPost, agent.PathLimit, good, body); code != http.StatusUnauthorized {
		t.Errorf("without keys: %d", code)
	}
}

// TestPathsNeedTokens: what walks or changes the brick needs a token; what probes and Prometheus
// read does not.
func TestPathsNeedTokens(t *testing.T) {
	h, _ := newServer(t)
	for path, code := range map[string]int{
		"GET /healthz": http.StatusOK, "GET /readyz": http.StatusServiceUnavailable, // no brick listens on port 1
		"GET /metrics": http.StatusOK, "GET " + agent.PathStatus: http.StatusOK,
		"GET " + agent.PathLeftover: http.StatusUnauthorized, "HEAD " + agent.PathLeftover: http.StatusUnauthorized,
		"POST " + agent.PathLimit: http.StatusUnauthorized, "POST " + agent.PathHeal: http.StatusUnauthorized,
		"POST " + agent.PathLayout: http.StatusUnauthorized, "POST " + agent.PathPending: http.StatusUnauthorized,
		"POST " + agent.PathForgive: http.StatusUnauthorized, "POST " + agent.PathShare: http.StatusUnauthorized,
	} {
		method, path, _ := strings.Cut(path, " ")
		if got := answerTo(t, h, method, path, "", nil); got != code {
			t.Errorf("%s %s: %d, want %d", method, path, got, code)
		}
	}
}

// TestLeftoverNeedsToken: a caller without a token neither counts files nor keeps others from it.
// A repeated request needs another token, which the client makes.
func TestLeftoverNeedsToken(t *testing.T) {
	h, s := newServer(t)
	address := strings.TrimPrefix(h.URL, "http://")
	s.counting.Lock() // somebody's count is running
	if code := answerTo(t, h, http.MethodGet, agent.PathLeftover, "", nil); code != http.StatusUnauthorized {
		t.Errorf("without a token, beside a count: %d", code)
	}
	var c agent.Client
	if _, err := c.Leftover(t.Context(), address, "n/p/0", agent.Keys{key}); err == nil ||
		!strings.Contains(err.Error(), "503") {
		t.Errorf("beside a count: %v", err)
	}
	s.counting.Unlock()
	for range 2 {
		if l, err := c.Leftover(t.Context(), address, "n/p/0", agent.Keys{key}); err != nil || l.Files != 0 {
			t.Errorf("%+v, %v", l, err)
		}
	}
	if _, err := c.Leftover(t.Context(), address, "n/p/1", agent.Keys{key}); err == nil {
		t.Error("a token for another brick was accepted")
	}
}

// TestFullMemoryOfTokens: a caller learns that it may retry when no more tokens can be remembered.
func TestFullMemoryOfTokens(t *testing.T) {
	h, s := newServer(t)
	q := agent.Request{Audience: "n/p/0", Method: http.MethodGet, Path: agent.PathLeftover}
	s.tokens.Max = 2
	for _, want := range []int{http.StatusOK, http.StatusOK, http.StatusServiceUnavailable} {
		if code := answerTo(t, h, q.Method, q.Path, tokenFor(t, agent.Keys{key}, q, time.Now()), nil); code != want {
			t.Errorf("%d, want %d", code, want)
		}
	}
}

// TestRefusalsAreLoggedSometimes: a caller in a loop does not fill the log.
func TestRefusalsAreLoggedSometimes(t *testing.T) {
	h, s := newServer(t)
	var lines []string
	s.Log = funcr.New(func(_, args string) { lines = append(lines, args) }, funcr.Options{})
	for range 20 {
		answerTo(t, h, http.MethodGet, agent.PathLeftover, "", nil)
	}
	s.refused.loggedAt = time.Now().Add(-logRefusedEvery)
	answerTo(t, h, http.MethodGet, agent.PathLeftover, "", nil)
	if len(lines) != 2 || !strings.Contains(lines[1], `"othersBefore"=19`) {
		t.Errorf("the log has %d lines: %q", len(lines), lines)
	}
}
