package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

const (
	// maxExamined is how many entries of the index are examined for the bricks that they blame.
	// Evictions need only one brick of a set that is known to be incomplete.
	maxExamined = 256
	// settleTiebreaker is how long no heals may have been pending in a set with a tiebreaker: as
	// long as the thin arbiter may still blame a brick that is healed (docs/decisions/0016).
	settleTiebreaker = 30 * time.Second
)

// ErrIncomplete says that the brick lacks data of its set.
var ErrIncomplete = errors.New("the brick is not complete")

// checkComplete asks the other bricks of the set, now, whether this one lacks anything. A
// PodDisruptionBudget counts bricks that are online and complete, so that no eviction takes a
// brick away that others are healed from. Bricks that do not answer are not waited for.
//
// In Disperse sets only new bricks are incomplete: the index of a brick does not say which
// other one lacks an entry, and lists entries that are being written.
func (h *Healer) checkComplete(ctx context.Context) error {
	if h.hasMark(ondisk.FreshAttribute) {
		return fmt.Errorf("%w: it is new and not yet shown to have everything", ErrIncomplete)
	}
	if err := h.checkSettled(); err != nil {
		return err
	}
	_, others, err := h.set()
	if err != nil {
		return err
	}
	states := h.queryPeers(ctx, others)
	hasTiebreaker := false
	for _, b := range others {
		hasTiebreaker = hasTiebreaker || !strings.HasPrefix(b.Name, h.clientPrefix())
	}
	for i, s := range states {
		settled := s.Calm == nil || time.Duration(*s.Calm)*time.Second >= settleTiebreaker
		switch {
		case s.Brick == "": // it does not answer, or is the tiebreaker
		case slices.Contains(s.Blames, h.Position):
			return fmt.Errorf("%w: brick %s on host %s has changes that it lacks", ErrIncomplete, s.Brick,
				others[i].Host)
		case hasTiebreaker && !settled:
			return fmt.Errorf("%w: heals were pending in the last %s, and the tiebreaker may still blame a brick",
				ErrIncomplete, settleTiebreaker)
		}
	}
	return nil
}

// checkOnline reports whether the brick answers a GlusterFS handshake, as of a moment ago.
func (a *Agent) checkOnline(ctx context.Context) error {
	_, err := a.probes.online.get(ctx, func(ctx context.Context) (none struct{}, err error) {
		return none, gluster.Ping(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Port)))
	})
	return err
}

// noteOwn records since when this brick is online.
func (h *Healer) noteOwn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	err := h.checkOnline(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.ownWasAway = h.ownWasAway || !h.ownSince.IsZero()
		h.ownSince = time.Time{}
	} else if h.ownSince.IsZero() {
		h.ownSince = time.Now()
	}
}

// noteIsolated notes whether the others of the set are reached. Clients were cut off from a brick
// that was cut off from all of them.
func (h *Healer) noteIsolated(states []agent.Status) {
	reached := slices.ContainsFunc(states, func(s agent.Status) bool { return s.Online || s.Brick != "" })
	if h.isolated && reached {
		h.mu.Lock()
		h.ownSince, h.ownWasAway = time.Now(), true
		h.mu.Unlock()
	}
	h.isolated = !reached && len(states) > 0
}

// checkSettled is an error while clients may still be connecting to this brick: if another brick
// of the set went away now, they would have no quorum. A brick that was never offline has no
// clients that wait for it.
func (h *Healer) checkSettled() error {
	own, _ := h.members()
	h.mu.Lock()
	defer h.mu.Unlock()
	if own.Start <= 1 && !h.ownWasAway {
		return nil
	}
	if h.ownSince.IsZero() || time.Since(h.ownSince) < h.SettleFor {
		return fmt.Errorf("%w: clients may still be connecting to it; it must be online for %s", ErrIncomplete,
			h.SettleFor)
	}
	return nil
}

// blamed is blames, as of a moment ago. While it is not known, it is empty: the brick then reports
// pending heals anyway.
func (a *Agent) blamed(ctx context.Context) []string {
	all, err := a.probes.blames.get(ctx, func(context.Context) ([]string, error) { return a.blames() })
	if err != nil && !errors.Is(err, errUnfinished) {
		a.Log.Error(err, "finding the bricks that lack something")
	}
	return all
}

// blames lists the positions of the bricks for which this one has pending counters, as far as
// the first entries of its index say.
func (a *Agent) blames() ([]string, error) {
	root, err := os.OpenRoot(a.Directory)
	if err != nil {
		return nil, fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	index, err := root.Open(filepath.Join(indices, "xattrop"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // no heal was ever pending
	}
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	defer index.Close()
	names, err := index.Readdirnames(maxExamined)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	var all []string
	for _, name := range names {
		id, err := uuid.Parse(name)
		if err != nil {
			continue
		}
		for _, position := range a.blamedFor(root, id) {
			if !slices.Contains(all, position) {
				all = append(all, position)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// blamedFor lists the positions of the bricks that lack a change of an entry.
func (a *Agent) blamedFor(root *os.Root, id uuid.UUID) (positions []string) {
	f, err := openGFID(root, id)
	if err != nil {
		return nil // healed or deleted meanwhile
	}
	defer f.Close()
	for _, name := range attributes(f) {
		position, isBrick := strings.CutPrefix(name, ondisk.PendingAttribute+a.clientPrefix())
		if isBrick && slices.ContainsFunc(pendingCounters(f, name), func(n uint32) bool { return n > 0 }) {
			positions = append(positions, position)
		}
	}
	return positions
}
