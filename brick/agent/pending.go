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
	// maxPending is the most entries of an index that are listed.
	maxPending = 1000
	// maxDepth bounds how far up a path is followed.
	maxDepth = 256
	// gfidAttribute is what a file is to GlusterFS, and gfid2path, with a suffix, the
	// GFID of a folder and the name there (storage/posix).
	gfidAttribute = "trusted.gfid"
	gfid2path     = "trusted.gfid2path."
)

// kinds are the counters of a pending attribute.
var kinds = []agent.Kind{agent.Data, agent.Metadata}

// pending lists what the brick holds against others.
func (s *Server) pending(w http.ResponseWriter, r *http.Request) {
	body, good := s.request(w, r)
	if !good {
		return
	}
	var q agent.PendingRequest
	if err := json.Unmarshal(body, &q); err != nil || q.Limit < 1 {
		http.Error(w, "the request asks for no number of entries", http.StatusBadRequest)
		return
	}
	p, err := s.Agent.pending(r.Context(), min(q.Limit, maxPending))
	if err != nil {
		s.Log.Error(err, "listing what is to be healed")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(p) // the caller has gone
}

// pending reads the index. What goes from it meanwhile is left out.
func (a *Agent) pending(ctx context.Context, limit int) (agent.Pending, error) {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return agent.Pending{}, fmt.Errorf("opening the brick: %w", err)
	}
	defer root.Close()
	names, err := fs.ReadDir(root.FS(), indices+"/xattrop")
	if errors.Is(err, fs.ErrNotExist) {
		return agent.Pending{}, nil // nothing was ever to be healed
	}
	if err != nil {
		return agent.Pending{}, fmt.Errorf("reading the index: %w", err)
	}
	var p agent.Pending
	for _, n := range names {
		id, err := uuid.Parse(n.Name())
		if err != nil || ctx.Err() != nil {
			continue
		}
		if len(p.Entries) == limit {
			p.More = true
			break
		}
		if e, err := entry(root, id); err == nil && len(e.Blames) > 0 {
			p.Entries = append(p.Entries, e)
		}
	}
	return p, ctx.Err()
}

// handle is where GlusterFS keeps a file under its GFID: a link to the file, or a symbolic
// link to the folder.
func handle(id uuid.UUID) string {
	text := id.String()
	return path.Join(ondisk.GlusterDir, text[:2], text[2:4], text)
}

// open opens a file or folder by its GFID, and makes sure that it is that one: what a
// tenant may have put in the place of a folder is not followed out of the brick, or taken
// for it.
func open(root *os.Root, id uuid.UUID) (*os.File, error) {
	f, err := root.OpenFile(handle(id), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	own := make([]byte, len(id))
	n, err := unix.Fgetxattr(int(f.Fd()), gfidAttribute, own)
	if err != nil || !slices.Equal(own[:n], id[:]) {
		return nil, errors.Join(fmt.Errorf("what is found under %s is something else", id), err, f.Close())
	}
	return f, nil
}

func entry(root *os.Root, id uuid.UUID) (agent.Entry, error) {
	f, err := open(root, id)
	if err != nil {
		return agent.Entry{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return agent.Entry{}, err
	}
	e := agent.Entry{ID: id.String(), Size: info.Size(), Modified: info.ModTime(), Blames: map[string][]agent.Kind{}}
	if st, is := info.Sys().(*syscall.Stat_t); is {
		e.Changed = time.Unix(st.Ctim.Unix())
	}
	for _, name := range attributes(f) {
		brick, is := strings.CutPrefix(name, pendingAttribute)
		if !is || brick == "dirty" {
			continue
		}
		for i, n := range counters(f, name) {
			if n > 0 && i < len(kinds) {
				e.Blames[brick] = append(e.Blames[brick], kinds[i])
			}
		}
	}
	e.Path = pathOf(root, id, f)
	return e, nil
}

// attributes lists the names of a file's attributes.
func attributes(f *os.File) []string {
	names := make([]byte, 64<<10)
	n, err := unix.Flistxattr(int(f.Fd()), names)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(names[:n]), "\x00"), "\x00")
}

// counters are those of a pending attribute; none when it has another form.
func counters(f *os.File, name string) []uint32 {
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

// pathOf is a name of a file, from the root of the volume; "" when it cannot be told.
func pathOf(root *os.Root, id uuid.UUID, f *os.File) string {
	below := ""
	for range maxDepth {
		if id.String() == rootID {
			return cmp.Or(below, "/")
		}
		parent, name := "", ""
		if target, err := root.Readlink(handle(id)); err == nil { // a folder
			parent, name = path.Base(path.Dir(target)), path.Base(target)
		} else if f != nil {
			parent, name = nameOf(f)
		}
		f = nil // what is above is a folder
		up, err := uuid.Parse(parent)
		if err != nil || name == "" {
			return ""
		}
		id, below = up, "/"+name+below
	}
	return ""
}

// nameOf is a name of a file, and the GFID of the folder in which it has it.
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

// clearPending takes back what the brick holds against another one.
func (s *Server) clearPending(w http.ResponseWriter, r *http.Request) {
	body, good := s.request(w, r)
	if !good {
		return
	}
	var q agent.ClearPendingRequest
	err := json.Unmarshal(body, &q)
	id, bad := uuid.Parse(q.ID)
	if err != nil || bad != nil || !strings.HasPrefix(q.Brick, s.clientPrefix()) || len(q.Kinds) == 0 {
		http.Error(w, "the request names no file, no brick of the pool, or nothing to forgive", http.StatusBadRequest)
		return
	}
	if err := s.Agent.clearPending(id, q); err != nil {
		s.Log.Error(err, "forgiving", "id", q.ID, "brick", q.Brick)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.Log.Info("another brick is held to be right", "id", q.ID, "brick", q.Brick, "about", q.Kinds)
}

func (a *Agent) clearPending(id uuid.UUID, q agent.ClearPendingRequest) error {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return fmt.Errorf("opening the brick: %w", err)
	}
	defer root.Close()
	f, err := open(root, id)
	if err != nil {
		return err
	}
	defer f.Close()
	name := pendingAttribute + q.Brick
	all := counters(f, name)
	if all == nil {
		return fmt.Errorf("nothing is held against %s", q.Brick)
	}
	var value []byte
	for i, n := range all {
		if i < len(kinds) && slices.Contains(q.Kinds, kinds[i]) {
			n = 0
		}
		value = binary.BigEndian.AppendUint32(value, n)
	}
	if err := unix.Fsetxattr(int(f.Fd()), name, value, 0); err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return nil
}
