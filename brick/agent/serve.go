package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/httpserver"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// maxBody is the largest request that is read, in bytes.
const maxBody = 64 << 10

// maxHeader is the largest header that is read, in bytes: a token has about 500.
const maxHeader = 16 << 10

// Server answers the driver, kubelets and Prometheus.
type Server struct {
	*Agent
	// Keys returns the current keys: they may change while the agent runs.
	Keys     func() (agent.Keys, error)
	counting sync.Mutex
	tokens   *agent.Verifier
	refused  refusals

	// Records is the directory in which the supervisors of the pod's daemons record crashes, "" if
	// nobody does.
	Records string
	// Healer is nil in a set of one brick, which has nothing to heal.
	Healer *Healer
}

// Handler serves the paths of internal/agent for the driver and other agents, and /healthz,
// /readyz and /metrics. The status and the last three need no token: a request costs the same
// whatever the brick has. Everything else is authenticated.
func (s *Server) Handler() http.Handler {
	s.tokens = agent.NewVerifier(time.Now())
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+agent.PathLimit, s.limit)
	mux.HandleFunc("POST "+agent.PathHeal, s.heal)
	mux.HandleFunc("POST "+agent.PathLayout, s.layout)
	mux.HandleFunc("POST "+agent.PathPending, s.pending)
	mux.HandleFunc("POST "+agent.PathForgive, s.clearPending)
	mux.HandleFunc("POST "+agent.PathShare, s.share)
	mux.HandleFunc("GET "+agent.PathStatus, s.status)
	mux.HandleFunc("GET "+agent.PathLeftover, s.leftover)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics",
		sharedPage(&s.probes.metrics, "/metrics", promhttp.HandlerFor(s.metrics(), promhttp.HandlerOpts{})))
	return mux
}

// Serve answers on an address until the context ends.
func (s *Server) Serve(ctx context.Context, address string) error {
	h := &http.Server{
		Handler: s.Handler(), ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeader,
	}
	return httpserver.Listen(ctx, h, address)
}

// heal starts a heal.
func (s *Server) heal(w http.ResponseWriter, r *http.Request) {
	body, good := s.authenticatedBody(w, r)
	if !good {
		return
	}
	var q agent.HealRequest
	if err := json.Unmarshal(body, &q); err != nil {
		http.Error(w, "invalid request: "+err.Error(), http.StatusBadRequest)
		return
	}
	if s.Healer == nil {
		http.Error(w, "nothing to heal: each set of this pool has one brick", http.StatusConflict)
		return
	}
	if err := s.Healer.Heal(r.Context(), q.Full); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

// walkWait is how long a status waits for walks of the brick: other bricks wait for the whole
// status as long as peerLimit.
const walkWait = peerLimit / 2

// status reports the state of the brick. It is readable without authentication: what costs more
// than a system call is shared by all callers.
func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), peerLimit)
	defer cancel()
	st := agent.Status{
		Pool: s.Pool, Brick: s.Position, Fresh: s.hasMark(ondisk.FreshAttribute),
		Joining: s.mark(ondisk.JoiningAttribute), Founders: s.founders(), Enforced: s.quota != nil,
	}
	st.Incarnation, st.Members = s.members()
	st.Replaced = s.mark(ondisk.ReplacedAttribute)
	st.Online = s.checkOnline(ctx) == nil
	// The other index of replicas, dirty, lists files while they are being written: it says
	// nothing about what a brick lacks.
	brief, cancel := context.WithTimeout(ctx, walkWait)
	defer cancel()
	st.Backlog = s.atLeastPending(brief)
	st.Blames = s.blamed(brief)
	if s.Healer != nil {
		st.Peers, st.Lacking, st.SplitBrain = s.Healer.peersOnline(), s.Healer.markedPeers(), s.Healer.Splits()
		st.Former = s.Healer.formers()
		healedFor := s.Healer.healedSeconds()
		if st.Backlog > 0 {
			healedFor = 0
		}
		st.Calm = &healedFor
	}
	st.Layout, st.Spread = s.mark(ondisk.LayoutAttribute), attribute(s.Directory, ondisk.SpreadAttribute)
	st.Empty, st.Promised, st.Crashes = s.isEmpty(brief), s.lastPromised(), s.recentCrashes()
	var fs unix.Statfs_t
	if unix.Statfs(s.Directory, &fs) == nil {
		st.Size, st.Free = fs.Blocks*uint64(fs.Frsize), fs.Bavail*uint64(fs.Frsize)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(st) // fails if the caller has disconnected
}

// limit enforces the size of one volume.
func (s *Server) limit(w http.ResponseWriter, r *http.Request) {
	body, good := s.authenticatedBody(w, r)
	if !good {
		return
	}
	var q agent.LimitRequest
	if err := json.Unmarshal(body, &q); err != nil || q.Bytes <= 0 || !fs.ValidPath(q.Folder) || q.Folder == "." {
		http.Error(w, "invalid request: it must name a directory and a size", http.StatusBadRequest)
		return
	}
	answer := agent.LimitAnswer{Enforced: s.quota != nil}
	if answer.Enforced {
		err := s.quota.Limit(r.Context(), q.Folder, s.brickShare(q.Bytes))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			http.Error(w, "the brick does not have this directory yet", http.StatusNotFound)
			return
		case err != nil:
			s.Log.Error(err, "enforcing the size of a volume", "folder", q.Folder)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // fails if the caller has disconnected
}

// ready reports whether the brick answers a GlusterFS handshake and is complete.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), onlineLimit)
	defer cancel()
	err := s.checkOnline(ctx)
	if err == nil && s.Healer != nil {
		_, err = s.probes.complete.get(ctx, func(ctx context.Context) (none struct{}, err error) {
			return none, s.Healer.checkComplete(ctx)
		})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}
