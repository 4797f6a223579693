package agent

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// pendingAttribute, with the name of another brick in the pool's graphs, is on what that
// brick lacks: three counters, for data, metadata and entries (GlusterFS 10,
// cluster/replicate).
const pendingAttribute = "trusted.afr."

const pendingSize = 12 // bytes

// rootID is the GFID of the root of every volume, by which the index names it.
const rootID = "00000000-0000-0000-0000-000000000001"

// noteLacking accuses the bricks that join a set which they have not founded, once no
// client can write here that does not know of them: what such a one writes would be noted
// nowhere, and the new brick be taken for good without it.
func (h *Healer) noteLacking(ctx context.Context, sets gluster.Healers, others []gluster.HealBrick, states []agent.Status) error {
	if h.has(ondisk.JoiningAttribute) {
		return nil // it may lack more itself
	}
	founders := h.founders()
	for i, b := range others {
		joining := states[i].Joining
		if joining == "" || h.pendingMarked(b.Name) == joining || slices.Contains(founders, joining) {
			continue
		}
		if known, err := h.known(ctx, sets); err != nil || !known {
			return err
		}
		if err := h.markPending(b.Name); err != nil {
			return err
		}
		h.mu.Lock()
		if h.lacks == nil {
			h.lacks = map[string]string{}
		}
		h.lacks[b.Name] = joining
		h.mu.Unlock()
	}
	return nil
}

// pendingMarked is as which another brick was accused last.
func (h *Healer) pendingMarked(brick string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lacks[brick]
}

// tellEvery is how often it is told that a brick that joins has to wait.
const tellEvery = 30 * time.Second

// known tells whether all clients of this brick know of all bricks of its set: it is asked
// whether it would let in one that knows of fewer. Who serves its volfile has it refuse
// them when they have had the time to learn.
func (h *Healer) known(ctx context.Context, sets gluster.Healers) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	set, _, found := sets.Around(h.ownName())
	if !found || set.Coded {
		return true, nil // nothing joins there
	}
	own := set.Bricks[slices.IndexFunc(set.Bricks, func(b gluster.HealBrick) bool { return b.Name == h.ownName() })]
	in, err := gluster.Admits(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(h.Port)), own.Folder, own.Fewer())
	if err != nil {
		return false, fmt.Errorf("a new brick waits: %w", err)
	}
	if in && time.Since(h.told) > tellEvery {
		h.told = time.Now()
		h.Log.Info("a new brick waits until clients have had the time to learn of it")
	}
	return !in, nil
}

// markPending notes that another brick, which was made empty and serves nobody yet, lacks the
// root's metadata and all entries. Clients do not read it there then, and the self-heal
// daemon, which finds it in the index, brings what is below as well. That something is
// pending for the brick already is not enough: it would be about what has changed while
// the brick was away.
func (h *Healer) markPending(brick string) error {
	if err := h.list(); err != nil {
		return fmt.Errorf("noting the root in the brick's index: %w", err)
	}
	root, err := os.Open(h.Directory)
	if err != nil {
		return fmt.Errorf("opening the brick: %w", err)
	}
	defer root.Close()
	all := counters(root, pendingAttribute+brick)
	if all == nil {
		all = []uint32{0, 0, 0}
	}
	var pending []byte
	for i, n := range all {
		if i > 0 {
			n = max(1, n)
		}
		pending = binary.BigEndian.AppendUint32(pending, n)
	}
	if err := unix.Fsetxattr(int(root.Fd()), pendingAttribute+brick, pending, 0); err != nil {
		return fmt.Errorf("noting what %s lacks: %w", brick, err)
	}
	h.Log.Info("another brick is new and lacks what this one has", "brick", brick)
	return nil
}

// list puts the root into the brick's index, and all that is in it into the list by which
// a folder's entries are healed. The index xlator makes links to one file there; it takes
// any file for an entry.
func (h *Healer) list() error {
	root, err := os.OpenRoot(h.Directory)
	if err != nil {
		return err
	}
	defer root.Close()
	const changed = indices + "/entry-changes/" + rootID
	if err := root.MkdirAll(changed, 0o700); err != nil {
		return err
	}
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	entries := []string{indices + "/xattrop/" + rootID}
	for _, name := range names {
		if name != ondisk.GlusterDir {
			entries = append(entries, changed+"/"+name)
		}
	}
	for _, entry := range entries {
		f, err := root.OpenFile(entry, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// lacking lists the bricks that were accused, as which they joined.
func (h *Healer) lacking() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Values(h.lacks))
}
