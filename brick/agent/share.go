package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// share makes a copy share the content of a block volume, on this brick.
func (s *Server) share(w http.ResponseWriter, r *http.Request) {
	body, good := s.authenticatedBody(w, r)
	if !good {
		return
	}
	var q agent.ShareRequest
	if err := json.Unmarshal(body, &q); err != nil || !isSource(q.From) || !isBelow(q.To, ondisk.Copies) {
		http.Error(w, "invalid request: it must name a source and a copy", http.StatusBadRequest)
		return
	}
	outcome, err := s.Agent.share(q.From, q.To)
	if err != nil {
		s.Log.Error(err, "sharing a volume's content", "from", q.From, "to", q.To)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(agent.ShareAnswer{Shared: outcome}) // fails if the caller has disconnected
}

func isSource(path string) bool {
	return isBelow(path, ondisk.BlockVolumes) || isBelow(path, ondisk.Snapshots)
}

func isBelow(path, folder string) bool {
	return fs.ValidPath(path) && strings.HasPrefix(path, folder+"/")
}

// share works on the brick's files directly, below GlusterFS: the caller makes sure that
// neither file is written meanwhile.
func (a *Agent) share(from, to string) (agent.Shared, error) {
	root, err := safepath.Open(a.Directory)
	if err != nil {
		return "", fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	source, err := openContent(root, from)
	if errors.Is(err, fs.ErrNotExist) {
		return agent.ShareAbsent, nil
	}
	if err != nil {
		return "", err
	}
	defer source.Close()
	target, err := openContent(root, to)
	if errors.Is(err, fs.ErrNotExist) {
		return agent.ShareApart, nil
	}
	if err != nil {
		return "", err
	}
	defer target.Close()
	for _, f := range []*os.File{source, target} {
		if differs, err := hasPending(f); err != nil || differs {
			return agent.ShareUnlike, err
		}
	}
	return shareBlocks(source, target)
}

// openContent opens a file whose content is on this brick. fs.ErrNotExist if there is no
// file, or only a link to another set.
func openContent(root *safepath.Dir, path string) (*os.File, error) {
	mode, err := root.Mode(path)
	if err != nil {
		return nil, err
	}
	if mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("open %s: not a regular file", path)
	}
	f, err := root.OpenRDWR(path)
	if err != nil {
		return nil, err
	}
	_, err = safepath.FromFile(f).Attribute(ondisk.LinkAttribute)
	if err == nil {
		err = fmt.Errorf("%s is on another set: %w", path, fs.ErrNotExist)
	}
	if errors.Is(err, safepath.ErrNoAttribute) {
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// disperseDirty is the attribute in which a brick of a Disperse set records that it, or another
// one, may be out of date (cluster/disperse): counters, all zero when the bricks agree. Replicas
// have ondisk.PendingAttribute.
const disperseDirty = "trusted.ec.dirty"

// hasPending reports whether bricks may differ in the content of a file.
func hasPending(f *os.File) (bool, error) {
	names, err := safepath.FromFile(f).Attributes("trusted.")
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.Name(), err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, ondisk.PendingAttribute) && name != disperseDirty {
			continue
		}
		value, err := safepath.FromFile(f).Attribute(name)
		if err != nil && !errors.Is(err, safepath.ErrNoAttribute) {
			return false, err
		}
		if strings.Trim(string(value), "\x00") != "" {
			return true, nil
		}
	}
	return false, nil
}

// shareBlocks clones the source's blocks into target. The content of a volume or a snapshot
// is never replaced.
func shareBlocks(source, target *os.File) (agent.Shared, error) {
	for _, name := range []string{ondisk.Attribute, ondisk.SnapshotAttribute} {
		if _, err := safepath.FromFile(target).Attribute(name); !errors.Is(err, safepath.ErrNoAttribute) {
			return "", errors.Join(err, fmt.Errorf("share content: %s is not an unfinished copy", target.Name()))
		}
	}
	err := unix.IoctlFileClone(int(target.Fd()), int(source.Fd()))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EXDEV),
		errors.Is(err, unix.EINVAL):
		return agent.ShareUnable, nil
	case err != nil:
		return "", fmt.Errorf("share the content of %s: %w", source.Name(), os.NewSyscallError("ioctl", err))
	}
	if err := target.Sync(); err != nil {
		return "", fmt.Errorf("share the content of %s: %w", source.Name(), err)
	}
	a, err := source.Stat()
	if err != nil {
		return "", err
	}
	b, err := target.Stat()
	if err != nil {
		return "", err
	}
	if a.Size() != b.Size() {
		return "", fmt.Errorf("share content: %s has %d bytes on this brick, its copy has %d", source.Name(), a.Size(),
			b.Size())
	}
	return agent.ShareDone, nil
}
