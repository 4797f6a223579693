package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Intervals and limits of healing.
const (
	pollEvery        = 5 * time.Second  // between polls of the set's other bricks
	indexHealEvery   = 15 * time.Second // between index heals while heals are pending
	fullHealEvery    = 5 * time.Minute  // between full heals while another brick is fresh
	countSplitsEvery = 15 * time.Second // between comparisons of the bricks' pending counters
	// fullHealDelay is how long a brick must be online before a full heal begins: the
	// daemon tries to connect every three seconds only, and heals without absent bricks.
	fullHealDelay = 8 * time.Second
	peerLimit     = 2 * time.Second // for one answer of another brick
)

// Defaults of Healer.
const (
	FreshFor  = 30 * time.Second
	SettleFor = 15 * time.Second
)

// Healer starts heals of the self-heal daemon beside the brick when there is something to
// heal: by itself the daemon notices neither the end of a network partition, nor that
// another brick is new and empty.
type Healer struct {
	*Agent
	Volfile string // of the self-heal daemon
	Socket  string // of the self-heal daemon
	// AgentPort is the port of the other bricks' agents.
	AgentPort int

	// FreshFor is how long no heals may have been pending before a new brick counts as complete.
	FreshFor time.Duration
	// SettleFor is how long a brick that has been offline must be online before it counts as
	// complete. Clients connect to it again within three seconds, and then acquire the locks of
	// their block volumes there.
	SettleFor time.Duration

	// Keys authenticate this agent to those of other bricks.
	Keys func() (agent.Keys, error)

	client agent.Client

	// Used by Run alone.
	onlineSince     map[string]time.Time // by host: since when a brick that answered last is online
	indexHealAt     time.Time            // last index heal
	fullHealAt      map[string]time.Time // by ID of a fresh brick's incarnation: its last full heal
	freshSince      time.Time            // when this fresh brick first saw all others healed
	waitLoggedAt    time.Time            // when it was last logged that a joining brick waits
	splitsCountedAt time.Time
	isolated        bool                 // whether none of the others answered at the last poll
	formerSeenAt    map[string]time.Time // by ID of a replaced brick: when it answered last
	formerLoggedAt  time.Time            // when it was last logged that a replaced brick serves

	// Results of Run, read by others.
	mu          sync.Mutex
	ownSince    time.Time         // since when this brick is online; zero while it is not
	ownWasAway  bool              // whether it was offline after it had been online
	peers       map[string]bool   // by host: whether the brick was online at the last poll
	marked      map[string]string // by client name: the joining mark of a brick whose pending counters are set
	former      ondisk.Places     // replaced bricks that may still serve
	splits      int               // entries on which this brick and others blame each other
	healedSince time.Time         // since when no heal is pending on this brick; zero while some is
}

// Run polls until the context ends.
func (h *Healer) Run(ctx context.Context) error {
	return repeat(ctx, pollEvery, func() {
		if err := h.poll(ctx); err != nil && ctx.Err() == nil {
			h.Log.Info("healing is delayed", "error", err.Error())
		}
	})
}

// set reads this brick's set and the set's other bricks from the volfile. The daemon
// is never asked to heal other sets: it has none of their bricks, and would refuse.
func (h *Healer) set() (gluster.Healers, []gluster.HealBrick, error) {
	text, err := os.ReadFile(h.Volfile)
	if err != nil {
		return nil, nil, fmt.Errorf("read the self-heal daemon's volfile: %w", err)
	}
	all, err := gluster.ParseHealers(string(text))
	if err != nil {
		return nil, nil, err
	}
	set, others, found := all.Around(h.clientName())
	if !found {
		return nil, nil, nil // a set of one brick
	}
	return gluster.Healers{set}, others, nil
}

// clientPrefix precedes the index of a brick in the client names of the pool's graphs.
func (a *Agent) clientPrefix() string { return a.Pool + "-client-" }

// clientName is the name of the brick's client in the pool's graphs.
func (a *Agent) clientName() string { return a.clientPrefix() + a.Position }

// poll queries the set's other bricks and starts a heal where one is needed.
func (h *Healer) poll(ctx context.Context) error {
	h.noteOwn(ctx)
	backlog, err := h.backlog(ctx)
	h.noteHealed(err == nil && backlog == 0)
	if err != nil {
		return fmt.Errorf("count pending heals: %w", err)
	}
	sets, others, err := h.set()
	if err != nil {
		return err
	}
	states := h.queryPeers(ctx, others)
	if h.fullHealAt == nil {
		h.fullHealAt = map[string]time.Time{}
	}
	returned, fresh := false, ""
	for i, b := range others {
		came, wasOnline := h.onlineSince[b.Host]
		returned = returned || states[i].Online && !wasOnline
		if states[i].Fresh && states[i].Online && wasOnline && time.Since(came) > fullHealDelay &&
			time.Since(h.fullHealAt[states[i].Incarnation.ID]) > fullHealEvery {
			fresh = states[i].Incarnation.ID
		}
	}
	h.noteOnline(others, states)
	h.noteIsolated(states)
	if err := h.noteReplaced(states); err != nil {
		return err
	}
	if err := h.watchFormers(ctx, others, states); err != nil {
		return err
	}
	if err := h.rememberMembers(others, states); err != nil {
		return err
	}
	if err := h.markJoining(ctx, sets, others, states); err != nil {
		return err
	}
	h.countSplits(ctx, others, backlog)
	switch {
	case fresh != "":
		if err := sets.Heal(ctx, h.Socket, gluster.HealFull); err != nil {
			return err
		}
		h.fullHealAt[fresh] = time.Now()
		h.Log.Info("started a full heal for a new brick", "incarnation", fresh)
	case returned || backlog > 0 && time.Since(h.indexHealAt) > indexHealEvery:
		if err := sets.Heal(ctx, h.Socket, gluster.HealIndex); err != nil {
			return err
		}
		h.indexHealAt = time.Now()
		h.Log.Info("started an index heal", "entries", backlog, "brickReturned", returned)
	}
	return h.clearFresh(others, states)
}

// noteOnline records since when the other bricks are online.
func (h *Healer) noteOnline(others []gluster.HealBrick, states []agent.Status) {
	before, peers := h.onlineSince, map[string]bool{}
	h.onlineSince = map[string]time.Time{}
	for i, b := range others {
		peers[b.Host] = states[i].Online
		if !states[i].Online {
			continue
		}
		h.onlineSince[b.Host] = time.Now()
		if came, was := before[b.Host]; was {
			h.onlineSince[b.Host] = came
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peers = peers
}

// noteHealed records since when no heal is pending on this brick.
func (h *Healer) noteHealed(healed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !healed {
		h.healedSince = time.Time{}
	} else if h.healedSince.IsZero() {
		h.healedSince = time.Now()
	}
}

// healedSeconds is for how long no heal was pending, as of the last poll.
func (h *Healer) healedSeconds() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.healedSince.IsZero() {
		return 0
	}
	return int64(time.Since(h.healedSince).Seconds())
}

// clearFresh removes the fresh mark of this brick once it is shown to be complete: it has joined
// its set, and for a while all others have been online, have joined, and have said that they have
// no pending heals. As soon as the brick has its first directory, what it lacks is in the others'
// indices, so that an interruption loses nothing.
func (h *Healer) clearFresh(others []gluster.HealBrick, states []agent.Status) error {
	if !h.hasMark(ondisk.FreshAttribute) {
		return nil
	}
	complete := !h.hasMark(ondisk.JoiningAttribute)
	for i, s := range states {
		hasAgent := strings.HasPrefix(others[i].Name, h.clientPrefix()) // a tiebreaker has none
		answered := s.Brick != "" && s.Joining == "" && s.Backlog == 0
		complete = complete && s.Online && (answered || !hasAgent)
	}
	if !complete {
		h.freshSince = time.Time{}
		return nil
	}
	if h.freshSince.IsZero() {
		h.freshSince = time.Now()
	}
	if time.Since(h.freshSince) < h.FreshFor {
		return nil
	}
	h.Log.Info("the new brick is healed")
	if err := unix.Removexattr(filepath.Join(h.Directory, ondisk.GlusterDir), ondisk.FreshAttribute); err != nil &&
		!errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("clear the fresh mark of the brick: %w", err)
	}
	return nil
}

// hasMark reports whether the brick has a mark.
func (a *Agent) hasMark(mark string) bool { return a.mark(mark) != "" }

// maxMark is the longest value of a mark, in bytes.
const maxMark = 4096

// mark is the value of one of the brick's marks, "" if the brick does not have it.
func (a *Agent) mark(name string) string {
	return attribute(filepath.Join(a.Directory, ondisk.GlusterDir), name)
}

func attribute(path, name string) string {
	value := make([]byte, maxMark)
	n, err := unix.Getxattr(path, name, value)
	if err != nil {
		return ""
	}
	return string(value[:n])
}

// founders are the bricks with which this one founded the set.
func (a *Agent) founders() []string { return strings.Fields(a.mark(ondisk.FoundersAttribute)) }

// queryPeers queries bricks and their agents concurrently. A brick that does not answer is not
// online; an agent that does not answer leaves everything else empty.
func (h *Healer) queryPeers(ctx context.Context, others []gluster.HealBrick) []agent.Status {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	states := make([]agent.Status, len(others))
	var wait sync.WaitGroup
	for i, b := range others {
		wait.Go(func() {
			if s, err := h.client.Status(ctx, net.JoinHostPort(b.Host, strconv.Itoa(h.AgentPort))); err == nil {
				states[i] = s
			}
			states[i].Online = gluster.Ping(ctx, net.JoinHostPort(b.Host, b.Port)) == nil
		})
	}
	wait.Wait()
	return states
}

// Heal starts a heal now.
func (h *Healer) Heal(ctx context.Context, full bool) error {
	sets, _, err := h.set()
	if err != nil {
		return err
	}
	op := gluster.HealIndex
	if full {
		op = gluster.HealFull
	}
	return sets.Heal(ctx, h.Socket, op)
}

// peersOnline maps the hosts of the set's other bricks to whether they were online at the
// last poll.
func (h *Healer) peersOnline() map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.peers
}

// countSplits counts the entries on which this brick and another one blame each other.
// Without keys the number is unknown and not changed; while another brick does not answer, it only
// grows.
func (h *Healer) countSplits(ctx context.Context, others []gluster.HealBrick, backlog int) {
	if backlog == 0 || h.Keys == nil {
		h.splitsCountedAt = time.Time{}
		h.setSplits(0)
		return
	}
	if time.Since(h.splitsCountedAt) < countSplitsEvery {
		return
	}
	h.splitsCountedAt = time.Now()
	keys, err := h.Keys()
	if err != nil || len(keys) == 0 {
		return
	}
	own, err := h.pending(ctx, maxPending)
	if err != nil {
		return // logged elsewhere
	}
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	set, silent := map[string]agent.Pending{h.clientName(): own}, false
	for _, b := range others {
		position, is := strings.CutPrefix(b.Name, h.clientPrefix())
		if !is {
			continue // a tiebreaker has no agent
		}
		at := net.JoinHostPort(b.Host, strconv.Itoa(h.AgentPort))
		p, err := h.client.Pending(ctx, at, agent.Audience(h.Namespace, h.Pool, position),
			agent.PendingRequest{Limit: maxPending}, keys)
		if err != nil {
			silent = true
			continue
		}
		set[b.Name] = p
	}
	splits := len(agent.Splits(set))
	if silent {
		splits = max(splits, h.Splits())
	}
	if splits > 0 {
		h.Log.Info("split-brain: bricks blame each other; 'atoll heal split-brain' lists the entries", "entries",
			splits)
	}
	h.setSplits(splits)
}

func (h *Healer) setSplits(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.splits = n
}

// Splits is how many entries are in split-brain, as of the last comparison.
func (h *Healer) Splits() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.splits
}
