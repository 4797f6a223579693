package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// A brick that was replaced may still run: Kubernetes forgets a pod that is deleted by force, but
// its node, which has lost the API server, does not know that. Clients that are connected to
// it would go on to write there instead of to the brick that has replaced it, which would then
// lack that without anybody's knowledge. So the former brick ends as soon as one of its set
// tells it, and the new one serves only when the others no longer find the former one.

// formerSilence is for how long a former brick must not have answered before it counts as ended. A
// shorter silence may be a lost packet.
const formerSilence = 2 * pollEvery

// noteReplaced notes on this brick that one of its set knows a newer one at its position.
func (h *Healer) noteReplaced(states []agent.Status) error {
	if h.hasMark(ondisk.JoiningAttribute) || h.hasMark(ondisk.ReplacedAttribute) {
		return nil
	}
	own, _ := h.members()
	for _, s := range states {
		if s.Brick == "" || s.Joining != "" {
			continue // it does not answer, or knows nothing yet
		}
		why := s.Members[h.Position].Check(own)
		if own.ID == "" || why == nil {
			continue
		}
		b, err := h.openIdentity()
		if err != nil {
			return err
		}
		defer b.Close()
		reason := fmt.Sprintf("brick %s says: %v", s.Brick, why)
		h.Log.Info("this brick must not serve any more", "reason", reason)
		return b.SetReplaced(reason)
	}
	return nil
}

// watchFormers notes where the others of the set are, and looks for bricks that they have
// replaced. It must run before rememberMembers: a new brick relies on it that a brick which
// remembers it has looked for its predecessor.
func (h *Healer) watchFormers(ctx context.Context, others []gluster.HealBrick, states []agent.Status) error {
	b, err := h.openIdentity()
	if err != nil {
		return err
	}
	defer b.Close()
	newest, err := b.Members()
	if err != nil {
		return err
	}
	places, err := b.Places()
	if err != nil {
		return err
	}
	before := slices.Clone(places)
	for i, other := range others {
		position, isBrick := strings.CutPrefix(other.Name, h.clientPrefix())
		if !isBrick {
			continue
		}
		newest.Learn(position, states[i].Incarnation)
		places.Note(ondisk.Place{Position: position, ID: states[i].Incarnation.ID, Address: states[i].Address})
	}
	former := places.Former(newest)
	ended := h.lookFor(ctx, former, others)
	for i, place := range former {
		if ended[i] && joined(place.Position, states, newest) {
			places.Forget(place.ID)
		}
	}
	h.noteFormers(former, ended)
	if slices.Equal(before, places) {
		return nil
	}
	return b.SetPlaces(places)
}

// joined reports whether the newest brick of a position has joined its set.
func joined(position string, states []agent.Status, newest ondisk.Members) bool {
	return slices.ContainsFunc(states, func(s agent.Status) bool {
		return s.Brick == position && s.Joining == "" && s.Incarnation.ID == newest[position].ID
	})
}

// noteFormers notes which former bricks may still serve, for status.
func (h *Healer) noteFormers(former ondisk.Places, ended []bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.former = nil
	for i, place := range former {
		if !ended[i] {
			h.former = append(h.former, place)
		}
	}
}

// formers lists the replaced bricks that may still serve, as of the last poll.
func (h *Healer) formers() ondisk.Places {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.former)
}

// formerMayServe reports whether a brick that was replaced by the one with this client name may
// still serve.
func (h *Healer) formerMayServe(clientName string) bool {
	return slices.ContainsFunc(h.formers(), func(p ondisk.Place) bool {
		return h.clientPrefix()+p.Position == clientName
	})
}

// lookFor reports which former bricks have ended.
func (h *Healer) lookFor(ctx context.Context, former ondisk.Places, others []gluster.HealBrick) []bool {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	found := make([]sighting, len(former))
	var wait sync.WaitGroup
	for i, place := range former {
		at := slices.IndexFunc(others, func(b gluster.HealBrick) bool {
			return b.Name == h.clientPrefix()+place.Position
		})
		if at >= 0 {
			wait.Go(func() { found[i] = h.look(ctx, place, others[at].Port) })
		}
	}
	wait.Wait()
	if h.formerSeenAt == nil {
		h.formerSeenAt = map[string]time.Time{}
	}
	ended := make([]bool, len(former))
	for i, place := range former {
		if _, known := h.formerSeenAt[place.ID]; !known || found[i] == serves {
			h.formerSeenAt[place.ID] = time.Now()
		}
		ended[i] = found[i] == gone || time.Since(h.formerSeenAt[place.ID]) > formerSilence
		if found[i] == serves && time.Since(h.formerLoggedAt) > logWaitEvery {
			h.formerLoggedAt = time.Now()
			h.Log.Info("a brick that was replaced still serves; the new one waits until it has ended", "brick",
				place.Position, "address", place.Address)
		}
	}
	return ended
}

// sighting is what was found at the last address of a former brick.
type sighting int

const (
	silent sighting = iota // nobody answers, which a network partition can cause too
	serves
	gone // its brick or its pod has ended
)

func (h *Healer) look(ctx context.Context, place ondisk.Place, port string) sighting {
	s, err := h.client.Status(ctx, net.JoinHostPort(place.Address, strconv.Itoa(h.AgentPort)))
	if err == nil && s.Incarnation.ID != place.ID {
		return gone // another pod has its address
	}
	switch err := gluster.Ping(ctx, net.JoinHostPort(place.Address, port)); {
	case err == nil:
		return serves
	case errors.Is(err, syscall.ECONNREFUSED):
		return gone
	}
	return silent
}
