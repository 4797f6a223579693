package agent

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/atoll-storage/atoll/internal/agent"
)

// logRefusedEvery is how often refused callers are logged: one that repeats its request in a loop
// must not fill the node's disk with logs.
const logRefusedEvery = 10 * time.Second

// refusals counts the refused requests that were not logged.
type refusals struct {
	mu       sync.Mutex
	silent   int
	loggedAt time.Time
}

// next reports whether a refused request is to be logged, and how many before it were not.
func (r *refusals) next(now time.Time) (log bool, silent int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.loggedAt) < logRefusedEvery {
		r.silent++
		return false, 0
	}
	silent, r.silent, r.loggedAt = r.silent, 0, now
	return true, silent
}

// authenticatedBody reads the body of an authenticated request; false if an error was
// returned to the caller already.
func (s *Server) authenticatedBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "read request: its body is incomplete or too large", http.StatusBadRequest)
		return nil, false
	}
	err = s.authenticate(r, body)
	if err == nil {
		return body, true
	}
	if log, silent := s.refused.next(time.Now()); log {
		s.Log.Info("refused a caller", "address", r.RemoteAddr, "path", r.URL.Path,
			"error", err.Error(), "othersBefore", silent)
	}
	if errors.Is(err, agent.ErrTooMany) {
		http.Error(w, agent.ErrTooMany.Error(), http.StatusServiceUnavailable)
		return nil, false
	}
	http.Error(w, agent.ErrToken.Error(), http.StatusUnauthorized) // the reason is in the log only
	return nil, false
}

func (s *Server) authenticate(r *http.Request, body []byte) error {
	keys, err := s.Keys()
	if err != nil {
		return err
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return s.tokens.Verify(keys, token, agent.Request{
		Audience: agent.Audience(s.Namespace, s.Pool, s.Position),
		Method:   r.Method, Path: r.URL.RequestURI(), Body: body,
	}, time.Now())
}
