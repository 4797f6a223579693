package join

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// set is the brick's set: its other bricks with data. There are none in a set of one brick.
type set struct {
	peers    []gluster.HealBrick
	disperse bool
}

func (b *Brick) set() (set, error) {
	text, err := os.ReadFile(b.Volfile)
	if err != nil {
		return set{}, fmt.Errorf("read the volfile of the set: %w", err)
	}
	sets, err := gluster.ParseHealers(string(text))
	if err != nil {
		return set{}, err
	}
	own, others, _ := sets.Around(b.clientPrefix() + b.Position)
	return set{slices.DeleteFunc(others, func(one gluster.HealBrick) bool {
		return !strings.HasPrefix(one.Name, b.clientPrefix()) // a tiebreaker has no agent
	}), own.Disperse}, nil
}

// clientPrefix precedes the position of a brick in the name of its client in the pool's graphs.
func (b *Brick) clientPrefix() string { return b.Pool + "-client-" }

// peer is one of the set's other bricks and what its agent has answered.
type peer struct {
	position, host string
	agent.StatusResult
}

type peers []peer

func (b *Brick) queryPeers(ctx context.Context, bricks []gluster.HealBrick) peers {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	addresses := make([]string, len(bricks))
	for i, brick := range bricks {
		addresses[i] = net.JoinHostPort(brick.Host, strconv.Itoa(b.AgentPort))
	}
	var client agent.Client
	all := make(peers, len(bricks))
	for i, s := range client.Statuses(ctx, addresses...) {
		all[i] = peer{strings.TrimPrefix(bricks[i].Name, b.clientPrefix()), bricks[i].Host, s}
	}
	return all
}

// hasJoined reports whether a brick has answered that is a member of the set.
func (p peer) hasJoined() bool { return p.Err == nil && p.Joining == "" }

// knows reports whether a brick knows this incarnation of a position. A version without
// incarnations knows none, and is not waited for.
func (p peer) knows(position string, one ondisk.Incarnation) bool {
	return p.Incarnation.ID == "" || p.Members[position].ID == one.ID
}

// epochOf is the epoch of a new brick: one more than that of the brick that it replaces.
func (all peers) epochOf(position string, own ondisk.Incarnation) uint64 {
	epoch := max(1, own.Epoch)
	for _, p := range all {
		if known := p.Members[position]; p.hasJoined() && known.ID != "" && known.ID != own.ID {
			epoch = max(epoch, known.Epoch+1)
		}
	}
	return epoch
}

// members are the incarnations of the bricks that have joined.
func (all peers) members() ondisk.Members {
	m := ondisk.Members{}
	for _, p := range all {
		if p.hasJoined() {
			m.Learn(p.position, p.Incarnation)
		}
	}
	return m
}

// check returns why a brick is not what one of the others knows of its position: neither what it
// was before this start, nor what it is now.
func (all peers) check(position string, before, now ondisk.Incarnation) error {
	for _, p := range all {
		known := p.Members[position]
		if err := known.Check(before); p.Err == nil && err != nil && known != now {
			return fmt.Errorf("brick %s on host %s says: %w", p.position, p.host, err)
		}
	}
	return nil
}

// stale lists hosts of bricks that serve although they were replaced.
func (all peers) stale(members ondisk.Members) (hosts []string) {
	for _, p := range all {
		if p.hasJoined() && p.Online && p.Incarnation.ID != "" && members[p.position].Check(p.Incarnation) != nil {
			hosts = append(hosts, p.host)
		}
	}
	return hosts
}

// silent lists the hosts of bricks that do not answer.
func (all peers) silent() (hosts []string) {
	for _, p := range all {
		if p.Err != nil {
			hosts = append(hosts, p.host)
		}
	}
	return hosts
}

// confirmed reports whether a brick of the set, itself complete, knows this incarnation.
func (all peers) confirmed(position string, own ondisk.Incarnation) bool {
	return slices.ContainsFunc(all, func(p peer) bool { return p.hasJoined() && !p.Fresh && p.knows(position, own) })
}

// summary sums up the states of the set's other bricks, as a new brick sees them.
type summary struct {
	joining  []string // joining marks of those that are joining too
	founders int      // joined, and count this brick among the founders
	marking  int      // joined without this brick, and have marked everything as pending for it
	unmarked int      // have not marked it, and serve clients
	unaware  int      // joined, and do not know this brick's incarnation yet
	silent   []string // hosts of those that do not answer
	former   []string // addresses where the brick that this one replaces may still serve
}

func (all peers) sum(position, id string, own ondisk.Incarnation) (s summary) {
	for _, p := range all {
		if p.hasJoined() && !p.knows(position, own) {
			s.unaware++
		}
		for _, place := range p.Former {
			if place.Position == position && place.ID != own.ID && !slices.Contains(s.former, place.Address) {
				s.former = append(s.former, place.Address)
			}
		}
		switch {
		case p.Err != nil:
			s.silent = append(s.silent, p.host)
		case p.Joining != "":
			s.joining = append(s.joining, p.Joining)
		case slices.Contains(p.Founders, id):
			s.founders++
		case slices.Contains(p.Lacking, id):
			s.marking++
		case p.Online:
			s.unmarked++
		default: // it has data, and no client can write there now
			s.silent = append(s.silent, p.host)
		}
	}
	return s
}
