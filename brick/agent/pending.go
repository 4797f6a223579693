package agent

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

const (
	// maxPending is how many entries of an index are listed at most.
	maxPending = 1000
	// maxDepth bounds the length of a path, in components.
	maxDepth = 256
	// gfidAttribute is a file's identity in GlusterFS. gfid2path, with a suffix, has the
	// GFID of a parent directory and the file's name there (storage/posix).
	gfidAttribute = "trusted.gfid"
	gfid2path     = "trusted.gfid2path."
)

// counterKinds are the counters of a pending attribute that can be cleared, in order.
var counterKinds = []agent.Counter{agent.Data, agent.Metadata}

// pending lists the entries for which the brick has pending counters set for others.
func (s *Server) pending(w http.ResponseWriter, r *http.Request) {
	body, good := s.authenticatedBody(w, r)
	if !good {
		return
	}
	var q agent.PendingRequest
	if err := json.Unmarshal(body, &q); err != nil || q.Limit < 1 {
		http.Error(w, "invalid request: the limit must be at least 1", http.StatusBadRequest)
		return
	}
	p, err := s.Agent.pending(r.Context(), min(q.Limit, maxPending))
	if err != nil {
		s.Log.Error(err, "listing pending heals")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // fails if the caller has disconnected
}

// pending reads the entries with the lowest GFIDs in the index. Those that are healed meanwhile are
// left out.
func (a *Agent) pending(ctx context.Context, limit int) (agent.Pending, error) {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return agent.Pending{}, fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	candidates, err := a.lowestPending(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return agent.Pending{}, nil // no heal was ever pending
	}
	if err != nil {
		return agent.Pending{}, fmt.Errorf("read the index: %w", err)
	}
	select {
	case a.probes.reading <- struct{}{}: // one caller at a time
		defer func() { <-a.probes.reading }()
	case <-ctx.Done():
		return agent.Pending{}, ctx.Err()
	}
	p := agent.Pending{More: candidates.more}
	for _, id := range candidates.ids {
		if ctx.Err() != nil {
			break
		}
		if len(p.Entries) == limit {
			p.More = true
			break
		}
		if e, err := readEntry(root, id); err == nil && len(e.Blames) > 0 {
			p.Entries = append(p.Entries, e)
		}
	}
	return p, ctx.Err()
}

// gfidPath is the path under which GlusterFS keeps an entry by its GFID: a hard link to a
// file, or a symbolic link to a directory.
func gfidPath(id uuid.UUID) string {
	text := id.String()
	return path.Join(ondisk.GlusterDir, text[:2], text[2:4], text)
}

// openGFID opens a file or directory by its GFID and verifies its identity, so that an
// entry with which a tenant has replaced a directory is neither followed out of the brick
// nor mistaken for it.
func openGFID(root *os.Root, id uuid.UUID) (*os.File, error) {
	f, err := root.OpenFile(gfidPath(id), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	found := make([]byte, len(id))
	n, err := unix.Fgetxattr(int(f.Fd()), gfidAttribute, found)
	if err != nil || !slices.Equal(found[:n], id[:]) {
		return nil, errors.Join(fmt.Errorf("open GFID %s: the entry has another GFID", id), err, f.Close())
	}
	return f, nil
}

func readEntry(root *os.Root, id uuid.UUID) (agent.Entry, error) {
	f, err := openGFID(root, id)
	if err != nil {
		return agent.Entry{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return agent.Entry{}, err
	}
	e := agent.Entry{ID: id.String(), Size: info.Size(), Modified: info.ModTime(), Blames: map[string][]agent.Counter{}}
	if st, is := info.Sys().(*syscall.Stat_t); is {
		e.Changed = time.Unix(st.Ctim.Unix())
	}
	for _, name := range attributes(f) {
		brick, is := strings.CutPrefix(name, ondisk.PendingAttribute)
		if !is || brick == "dirty" {
			continue
		}
		for i, n := range pendingCounters(f, name) {
			if n > 0 && i < len(counterKinds) {
				e.Blames[brick] = append(e.Blames[brick], counterKinds[i])
			}
		}
	}
	e.Path = pathOf(root, id, f)
	return e, nil
}

// attributes lists the names of a file's extended attributes.
func attributes(f *os.File) []string {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(f.Fd()), names)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00")
}

// pendingCounters decodes a pending attribute; nil if it is missing or malformed.
func pendingCounters(f *os.File, name string) []uint32 {
	value := make([]byte, pendingSize)
	n, err := unix.Fgetxattr(int(f.Fd()), name, value)
	if err != nil || n != pendingSize {
		return nil
	}
	var all []uint32
	for i := 0; i < pendingSize; i += 4 {
		all = append(all, binary.BigEndian.Uint32(value[i:]))
	}
	return all
}

// pathOf is a path of a file, from the root of the volume; "" if it cannot be determined.
func pathOf(root *os.Root, id uuid.UUID, f *os.File) string {
	below := ""
	for range maxDepth {
		if id.String() == rootID {
			return cmp.Or(below, "/")
		}
		parent, name := "", ""
		if target, err := root.Readlink(gfidPath(id)); err == nil { // a directory
			parent, name = path.Base(path.Dir(target)), path.Base(target)
		} else if f != nil {
			parent, name = nameOf(f)
		}
		f = nil // parents are directories
		up, err := uuid.Parse(parent)
		if err != nil || name == "" {
			return ""
		}
		id, below = up, "/"+name+below
	}
	return ""
}

// nameOf is a name of a file, and the GFID of the parent directory.
func nameOf(f *os.File) (parent, name string) {
	for _, attribute := range attributes(f) {
		if !strings.HasPrefix(attribute, gfid2path) {
			continue
		}
		value := make([]byte, 1024)
		n, err := unix.Fgetxattr(int(f.Fd()), attribute, value)
		if err != nil {
			continue
		}
		parent, name, _ = strings.Cut(string(value[:n]), "/")
		return parent, name
	}
	return "", ""
}

// clearPending clears pending counters that the brick has set for another one.
func (s *Server) clearPending(w http.ResponseWriter, r *http.Request) {
	body, good := s.authenticatedBody(w, r)
	if !good {
		return
	}
	var q agent.ClearPendingRequest
	err := json.Unmarshal(body, &q)
	id, bad := uuid.Parse(q.ID)
	if err != nil || bad != nil || !strings.HasPrefix(q.Brick, s.clientPrefix()) || len(q.Counters) == 0 {
		http.Error(w, "invalid request: it must name a file, a brick of the pool, and counters to clear",
			http.StatusBadRequest)
		return
	}
	if err := s.Agent.clearPending(id, q); err != nil {
		s.Log.Error(err, "clearing pending counters", "id", q.ID, "brick", q.Brick)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.Log.Info("cleared pending counters against another brick", "id", q.ID, "brick", q.Brick, "counters", q.Counters)
}

func (a *Agent) clearPending(id uuid.UUID, q agent.ClearPendingRequest) error {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	f, err := openGFID(root, id)
	if err != nil {
		return err
	}
	defer f.Close()
	name := ondisk.PendingAttribute + q.Brick
	all := pendingCounters(f, name)
	if all == nil {
		return fmt.Errorf("clear pending counters: none is set against %s", q.Brick)
	}
	var value []byte
	for i, n := range all {
		if i < len(counterKinds) && slices.Contains(q.Counters, counterKinds[i]) {
			n = 0
		}
		value = binary.BigEndian.AppendUint32(value, n)
	}
	if err := unix.Fsetxattr(int(f.Fd()), name, value, 0); err != nil {
		return fmt.Errorf("set attribute %s: %w", name, err)
	}
	return nil
}
