package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

const (
	// maxLayout is the longest name of a layout, in bytes: a number of 32 bits.
	maxLayout = 16
	// namesLogged is how many of the remaining files are named in the log.
	namesLogged = 20
)

// layout records how files are distributed over sets.
func (s *Server) layout(w http.ResponseWriter, r *http.Request) {
	body, good := s.authenticatedBody(w, r)
	if !good {
		return
	}
	var q agent.LayoutRequest
	if err := json.Unmarshal(body, &q); err != nil || q.Layout == "" || len(q.Layout) > maxLayout {
		http.Error(w, "invalid request: no layout", http.StatusBadRequest)
		return
	}
	if err := unix.Setxattr(filepath.Join(s.Directory, ondisk.GlusterDir), ondisk.LayoutAttribute, []byte(q.Layout),
		0); err != nil {
		s.Log.Error(err, "recording the layout")
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// leftover counts the files of the brick, for one caller at a time.
func (s *Server) leftover(w http.ResponseWriter, r *http.Request) {
	if _, good := s.authenticatedBody(w, r); !good {
		return
	}
	if !s.counting.TryLock() {
		http.Error(w, "the files are already being counted for another caller; retry", http.StatusServiceUnavailable)
		return
	}
	defer s.counting.Unlock()
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(agent.LeftoverLimit)); err != nil {
		s.Log.Error(err, "cannot extend the deadline; counting may be interrupted")
	}
	n, names, err := s.files(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if n > 0 {
		s.Log.Info("the brick still has files", "files", n, "some", names)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(agent.Leftover{Files: n}) // fails if the caller has disconnected
}

// files counts everything but directories and what GlusterFS keeps for itself, and returns
// some of the names.
func (a *Agent) files(ctx context.Context) (n int, names []string, err error) {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return 0, nil, fmt.Errorf("count the brick's files: %w", err)
	}
	defer root.Close()
	err = walk(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // deleted meanwhile
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case path == ondisk.GlusterDir:
			return fs.SkipDir
		case d.IsDir() || a.isLink(path):
			return nil
		}
		n++
		if len(names) < namesLogged {
			names = append(names, path)
		}
		return nil
	})
	if err != nil {
		return n, names, fmt.Errorf("count the brick's files: %w", err)
	}
	return n, names, nil
}

// errFound ends a walk early.
var errFound = errors.New("found")

// isEmpty reports whether the brick was empty a moment ago. It is not while that is unknown.
func (a *Agent) isEmpty(ctx context.Context) bool {
	empty, err := a.probes.empty.get(ctx, func(ctx context.Context) (bool, error) { return a.empty(ctx), nil })
	return empty && err == nil
}

// empty reports whether the brick has neither volumes nor files. An unreadable brick is
// not empty.
func (a *Agent) empty(ctx context.Context) bool {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return false
	}
	defer root.Close()
	err = walk(root, ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case path == ondisk.GlusterDir:
			return fs.SkipDir
		case !d.IsDir(), strings.Count(path, "/") >= ondisk.Depth && !strings.HasPrefix(path, ondisk.Blocks+"/"):
			return errFound
		}
		return nil
	})
	return err == nil
}

// isLink reports whether a file only points to another set.
func (a *Agent) isLink(path string) bool {
	_, err := unix.Lgetxattr(filepath.Join(a.Directory, path), ondisk.LinkAttribute, nil)
	return err == nil
}
