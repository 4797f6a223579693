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

const pendingSize = 12 // of the counters in ondisk.PendingAttribute, in bytes

// rootID is the GFID of every volume's root, which is its name in the index.
const rootID = "00000000-0000-0000-0000-000000000001"

// markJoining marks everything as pending for bricks that join an existing set, once every
// client that can write here knows them: the writes of another client would be recorded
// nowhere, and the new brick would count as complete without them.
func (h *Healer) markJoining(
	ctx context.Context, sets gluster.Healers, others []gluster.HealBrick, states []agent.Status,
) error {
	if h.hasMark(ondisk.JoiningAttribute) {
		return nil // this brick may lack even more
	}
	founders := h.founders()
	for i, b := range others {
		joining := states[i].Joining
		if joining == "" || h.markedAs(b.Name) == joining || slices.Contains(founders, joining) {
			continue
		}
		if h.formerMayServe(b.Name) {
			continue // self-heal daemons would heal that one, and clear the counters
		}
		if known, err := h.clientsKnowAllBricks(ctx, sets); err != nil || !known {
			return err
		}
		if err := h.markPending(b.Name); err != nil {
			return err
		}
		h.mu.Lock()
		if h.marked == nil {
			h.marked = map[string]string{}
		}
		h.marked[b.Name] = joining
		h.mu.Unlock()
	}
	return nil
}

// markedAs is the joining mark that another brick had when its pending counters were set.
func (h *Healer) markedAs(brick string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.marked[brick]
}

// logWaitEvery is how often it is logged that a joining brick waits.
const logWaitEvery = 30 * time.Second

// clientsKnowAllBricks reports whether all clients of this brick know all bricks of its
// set: whether the brick refuses a client that knows fewer. The process that serves the
// brick's volfile makes it refuse them once they have had time to get the new one.
func (h *Healer) clientsKnowAllBricks(ctx context.Context, sets gluster.Healers) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	set, _, found := sets.Around(h.clientName())
	if !found || set.Disperse {
		return true, nil // no brick joins such a set
	}
	own := set.Bricks[slices.IndexFunc(set.Bricks, func(b gluster.HealBrick) bool { return b.Name == h.clientName() })]
	in, err := gluster.Admits(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(h.Port)), own.Directory,
		own.FewerReplicas())
	if err != nil {
		return false, fmt.Errorf("check whether clients know the new brick: %w", err)
	}
	if in && time.Since(h.waitLoggedAt) > logWaitEvery {
		h.waitLoggedAt = time.Now()
		h.Log.Info("a new brick waits until all clients know it")
	}
	return !in, nil
}

// markPending records that another brick, which was created empty and serves no client yet,
// lacks the root's metadata and all entries. Clients then do not read the root from it, and
// the self-heal daemon, which finds the root in the index, heals everything below it too.
// Counters that are set already are not enough: they cover only what has changed while
// the brick was offline.
func (h *Healer) markPending(brick string) error {
	if err := h.indexRoot(); err != nil {
		return fmt.Errorf("add the root to the brick's index: %w", err)
	}
	root, err := os.Open(h.Directory)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	all := pendingCounters(root, ondisk.PendingAttribute+brick)
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
	if err := unix.Fsetxattr(int(root.Fd()), ondisk.PendingAttribute+brick, pending, 0); err != nil {
		return fmt.Errorf("set the pending counters of %s: %w", brick, err)
	}
	h.Log.Info("marked everything as pending for a new brick", "brick", brick)
	return nil
}

// indexRoot adds the root to the brick's index, and its entries to the list by which the
// entries of a directory are healed. The index xlator creates hard links to one file there;
// it accepts any file as an entry.
func (h *Healer) indexRoot() error {
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

// markedPeers lists the joining marks of the bricks whose pending counters were set.
func (h *Healer) markedPeers() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Sorted(maps.Values(h.marked))
}
