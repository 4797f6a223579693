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
	// maxLayout is the longest name of a layout, in bytes: it is a number of 32 bits.
	maxLayout = 16
	// linkAttribute is on files without content that tell on which set a file is
	// (GlusterFS, cluster/distribute).
	linkAttribute = "trusted.glusterfs.dht.linkto"
	// namesTold is how many of the files that a brick still has are named in the log.
	namesTold = 20
)

// layout notes how files are spread.
func (s *Server) layout(w http.ResponseWriter, r *http.Request) {
	body, good := s.request(w, r)
	if !good {
		return
	}
	var q agent.LayoutRequest
	if err := json.Unmarshal(body, &q); err != nil || q.Layout == "" || len(q.Layout) > maxLayout {
		http.Error(w, "the request names no layout", http.StatusBadRequest)
		return
	}
	if err := unix.Setxattr(filepath.Join(s.Directory, ondisk.GlusterDir), ondisk.LayoutAttribute, []byte(q.Layout), 0); err != nil {
		s.Log.Error(err, "noting how files are spread")
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// leftover counts the files of the brick, for one caller at a time.
func (s *Server) leftover(w http.ResponseWriter, r *http.Request) {
	if !s.counting.TryLock() {
		http.Error(w, "the files are being counted for somebody else", http.StatusServiceUnavailable)
		return
	}
	defer s.counting.Unlock()
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(agent.LeftoverLimit)); err != nil {
		s.Log.Error(err, "counting may be cut off")
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
	_ = json.NewEncoder(w).Encode(agent.Leftover{Files: n}) // the caller has gone
}

// files counts all that is not a folder and not GlusterFS's own, and names some.
func (a *Agent) files(ctx context.Context) (n int, names []string, err error) {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return 0, nil, fmt.Errorf("counting the brick's files: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it has just gone
		case err != nil || ctx.Err() != nil:
			return errors.Join(err, ctx.Err())
		case path == ondisk.GlusterDir:
			return fs.SkipDir
		case d.IsDir() || a.isLink(path):
			return nil
		}
		n++
		if len(names) < namesTold {
			names = append(names, path)
		}
		return nil
	})
	if err != nil {
		return n, names, fmt.Errorf("counting the brick's files: %w", err)
	}
	return n, names, nil
}

// errFound ends a walk that has found what it looked for.
var errFound = errors.New("found")

// empty tells whether the brick has no volume and no file. What cannot be read is not empty.
func (a *Agent) empty(ctx context.Context) bool {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return false
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
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

// isLink tells whether a file only says where another is.
func (a *Agent) isLink(path string) bool {
	_, err := unix.Lgetxattr(filepath.Join(a.Directory, path), linkAttribute, nil)
	return err == nil
}
