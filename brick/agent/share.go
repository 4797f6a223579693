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

// share lets a copy have the content of a volume of blocks, on this brick.
func (s *Server) share(w http.ResponseWriter, r *http.Request) {
	body, good := s.request(w, r)
	if !good {
		return
	}
	var q agent.ShareRequest
	if err := json.Unmarshal(body, &q); err != nil || !isSource(q.From) || !below(q.To, ondisk.Copies) {
		http.Error(w, "the request names no source or no copy", http.StatusBadRequest)
		return
	}
	outcome, err := s.Agent.share(q.From, q.To)
	if err != nil {
		s.Log.Error(err, "sharing a volume's content", "from", q.From, "to", q.To)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(agent.ShareAnswer{Shared: outcome}) // the caller has gone
}

func isSource(path string) bool {
	return below(path, ondisk.BlockVolumes) || below(path, ondisk.Snapshots)
}

func below(path, folder string) bool {
	return fs.ValidPath(path) && strings.HasPrefix(path, folder+"/")
}

// share works on the brick's own files, below GlusterFS: who asks makes sure that neither
// file is written meanwhile.
func (a *Agent) share(from, to string) (agent.Shared, error) {
	root, err := safepath.Open(a.Directory)
	if err != nil {
		return "", fmt.Errorf("opening the brick: %w", err)
	}
	defer root.Close()
	source, err := content(root, from)
	if errors.Is(err, fs.ErrNotExist) {
		return agent.ShareAbsent, nil
	}
	if err != nil {
		return "", err
	}
	defer source.Close()
	target, err := content(root, to)
	if errors.Is(err, fs.ErrNotExist) {
		return agent.ShareApart, nil
	}
	if err != nil {
		return "", err
	}
	defer target.Close()
	for _, f := range []*os.File{source, target} {
		if differs, err := accuses(f); err != nil || differs {
			return agent.ShareUnlike, err
		}
	}
	return clone(source, target)
}

// content opens a file that is on this brick, and not only a pointer to another set; else
// fs.ErrNotExist.
func content(root *safepath.Dir, path string) (*os.File, error) {
	mode, err := root.Mode(path)
	if err != nil {
		return nil, err
	}
	if mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fmt.Errorf("%s is no file", path)
	}
	f, err := root.OpenRDWR(path)
	if err != nil {
		return nil, err
	}
	_, err = safepath.Of(f).Attribute(linkAttribute)
	if err == nil {
		err = fmt.Errorf("%s is on another set: %w", path, fs.ErrNotExist)
	}
	if errors.Is(err, safepath.ErrNoAttribute) {
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// Attributes in which a brick notes that another one, or itself, may lack what it has
// (cluster/replicate, cluster/disperse): counters, all of them zero when bricks are alike.
const (
	replicaPrefix = "trusted.afr."
	disperseDirty = "trusted.ec.dirty"
)

// accuses tells whether bricks may have different contents of a file.
func accuses(f *os.File) (bool, error) {
	names, err := safepath.Of(f).Attributes("trusted.")
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.Name(), err)
	}
	for _, name := range names {
		if !strings.HasPrefix(name, replicaPrefix) && name != disperseDirty {
			continue
		}
		value, err := safepath.Of(f).Attribute(name)
		if err != nil && !errors.Is(err, safepath.ErrNoAttribute) {
			return false, err
		}
		if strings.Trim(string(value), "\x00") != "" {
			return true, nil
		}
	}
	return false, nil
}

// clone shares the blocks. The content of a volume or a snapshot is never replaced.
func clone(source, target *os.File) (agent.Shared, error) {
	for _, name := range []string{ondisk.Attribute, ondisk.SnapshotAttribute} {
		if _, err := safepath.Of(target).Attribute(name); !errors.Is(err, safepath.ErrNoAttribute) {
			return "", errors.Join(err, fmt.Errorf("%s is no copy that is being made", target.Name()))
		}
	}
	err := unix.IoctlFileClone(int(target.Fd()), int(source.Fd()))
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTTY), errors.Is(err, unix.EXDEV), errors.Is(err, unix.EINVAL):
		return agent.ShareUnable, nil
	case err != nil:
		return "", fmt.Errorf("sharing the content of %s: %w", source.Name(), os.NewSyscallError("ioctl", err))
	}
	if err := target.Sync(); err != nil {
		return "", fmt.Errorf("sharing the content of %s: %w", source.Name(), err)
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
		return "", fmt.Errorf("%s has %d bytes on this brick, its copy %d", source.Name(), a.Size(), b.Size())
	}
	return agent.ShareDone, nil
}
