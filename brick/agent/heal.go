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

// Times of healing.
const (
	lookEvery = 5 * time.Second  // at the other bricks of the set
	askEvery  = 15 * time.Second // for a heal while there is something to heal
	fullEvery = 5 * time.Minute  // for a full heal while another brick is fresh
	// compareEvery is how often what bricks hold against each other is compared.
	compareEvery = 15 * time.Second
	// settled is how long a brick must be back before a full heal begins: the daemon
	// tries to connect each three seconds only, and heals without who is not there.
	settled    = 8 * time.Second
	freshLeast = 30 * time.Second // how long a fresh brick is one at least
	peerLimit  = 2 * time.Second  // for one answer of another brick
)

// Healer has the self-heal daemon beside the brick look when there is something to
// heal: it does not notice the end of a partition, nor that a brick is new and empty,
// by itself.
type Healer struct {
	*Agent
	Volfile string // of the self-heal daemon
	Socket  string // of the self-heal daemon
	// AgentPort is that of the agents of the other bricks.
	AgentPort int

	// Keys are those that the agents of other bricks know this one by.
	Keys func() (agent.Keys, error)

	client agent.Client

	// Of Run alone.
	since    map[string]time.Time // by host: when a brick came that answered last
	asked    time.Time            // for a heal of the index
	full     map[string]time.Time // by host: when a full heal was asked for
	begun    time.Time            // when this brick, fresh, first saw the others
	told     time.Time            // that a brick that joins has to wait
	compared time.Time            // when splits was counted

	// What Run has found, for those who ask.
	mu     sync.Mutex
	peers  map[string]bool   // by host: whether the brick answered last
	lacks  map[string]string // by name: bricks that join and have been accused, as which
	splits int               // entries about which this brick and others hold each other to be wrong
	calm   time.Time         // since when nothing was to be healed from this brick, 0 while something is
}

// Run looks until the context ends.
func (h *Healer) Run(ctx context.Context) error {
	return repeat(ctx, lookEvery, func() {
		if err := h.look(ctx); err != nil && ctx.Err() == nil {
			h.Log.Info("healing waits", "error", err.Error())
		}
	})
}

// set reads from the volfile this brick's set, and which other bricks it has. The daemon
// is not asked for other sets: it has none of their bricks, and would refuse.
func (h *Healer) set() (gluster.Healers, []gluster.HealBrick, error) {
	text, err := os.ReadFile(h.Volfile)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the self-heal daemon's volfile: %w", err)
	}
	all, err := gluster.ParseHealers(string(text))
	if err != nil {
		return nil, nil, err
	}
	set, others, found := all.Around(h.ownName())
	if !found {
		return nil, nil, nil // a set of one
	}
	return gluster.Healers{set}, others, nil
}

// clients is before the index of a brick in the pool's graphs.
func (a *Agent) clients() string { return a.Pool + "-client-" }

// ownName is the name of the brick there.
func (a *Agent) ownName() string { return a.clients() + a.Position }

// look asks the other bricks how they are, and for a heal when that tells to.
func (h *Healer) look(ctx context.Context) error {
	own, err := backlog(h.Directory, "xattrop")
	h.noteCalm(err == nil && own == 0)
	if err != nil {
		return fmt.Errorf("reading what is to be healed: %w", err)
	}
	sets, others, err := h.set()
	if err != nil {
		return err
	}
	states := h.ask(ctx, others)
	if h.full == nil {
		h.full = map[string]time.Time{}
	}
	back, fresh := false, ""
	for i, b := range others {
		came, was := h.since[b.Host]
		back = back || states[i].Online && !was
		if states[i].Fresh && states[i].Online && was && time.Since(came) > settled && time.Since(h.full[b.Host]) > fullEvery {
			fresh = b.Host
		}
	}
	h.note(others, states)
	if err := h.noteLacking(ctx, sets, others, states); err != nil {
		return err
	}
	h.compare(ctx, others, own)
	switch {
	case fresh != "":
		if err := sets.Heal(ctx, h.Socket, gluster.HealFull); err != nil {
			return err
		}
		h.full[fresh] = time.Now()
		h.Log.Info("healing all that a new brick lacks", "host", fresh)
	case back || own > 0 && time.Since(h.asked) > askEvery:
		if err := sets.Heal(ctx, h.Socket, gluster.HealIndex); err != nil {
			return err
		}
		h.asked = time.Now()
		h.Log.Info("healing what other bricks lack", "entries", own, "aBrickIsBack", back)
	}
	return h.settle(states)
}

// note keeps since when the other bricks are there.
func (h *Healer) note(others []gluster.HealBrick, states []agent.Status) {
	before, peers := h.since, map[string]bool{}
	h.since = map[string]time.Time{}
	for i, b := range others {
		peers[b.Host] = states[i].Online
		if !states[i].Online {
			continue
		}
		h.since[b.Host] = time.Now()
		if came, was := before[b.Host]; was {
			h.since[b.Host] = came
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.peers = peers
}

// noteCalm keeps since when nothing is to be healed from this brick.
func (h *Healer) noteCalm(calm bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !calm {
		h.calm = time.Time{}
	} else if h.calm.IsZero() {
		h.calm = time.Now()
	}
}

// calmSeconds is for how long nothing was, as of the last look.
func (h *Healer) calmSeconds() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calm.IsZero() {
		return 0
	}
	return int64(time.Since(h.calm).Seconds())
}

// settle takes the mark off this brick when it is new no longer: the others have seen
// it for a while and have nothing to heal. From its first folder on, what it lacks is
// in their indices, so that an interruption loses nothing.
func (h *Healer) settle(states []agent.Status) error {
	if !h.has(ondisk.FreshAttribute) {
		return nil
	}
	for _, s := range states {
		if !s.Online || s.Backlog > 0 {
			h.begun = time.Time{}
			return nil
		}
	}
	if h.begun.IsZero() {
		h.begun = time.Now()
	}
	if time.Since(h.begun) < freshLeast {
		return nil
	}
	h.Log.Info("the new brick has what its set has")
	if err := unix.Removexattr(filepath.Join(h.Directory, ondisk.GlusterDir), ondisk.FreshAttribute); err != nil && !errors.Is(err, unix.ENODATA) {
		return fmt.Errorf("taking the mark off a brick that was new: %w", err)
	}
	return nil
}

// has tells whether the brick has a mark.
func (a *Agent) has(mark string) bool { return a.mark(mark) != "" }

// maxMark is the longest value of a mark, in bytes.
const maxMark = 4096

// mark is the value of one of the brick's marks, "" when it has it not.
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

// founders are the bricks that were the first of the set with this one.
func (a *Agent) founders() []string { return strings.Fields(a.mark(ondisk.FoundersAttribute)) }

// ask asks bricks, and their agents, all at once. Who does not answer is not online.
func (h *Healer) ask(ctx context.Context, others []gluster.HealBrick) []agent.Status {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	states := make([]agent.Status, len(others))
	var wait sync.WaitGroup
	for i, b := range others {
		wait.Go(func() {
			if s, err := h.client.Status(ctx, net.JoinHostPort(b.Host, strconv.Itoa(h.AgentPort))); err == nil {
				states[i] = s
			}
			states[i].Online = gluster.Greet(ctx, net.JoinHostPort(b.Host, b.Port)) == nil
		})
	}
	wait.Wait()
	return states
}

// Heal asks for a heal now.
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

// reached are the other bricks of the set, as of the last look.
func (h *Healer) reached() map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.peers
}

// compare counts the entries about which this brick and another one hold each other to be
// wrong. Without keys, or a brick that answers, that is not known.
func (h *Healer) compare(ctx context.Context, others []gluster.HealBrick, backlog int) {
	if backlog == 0 || h.Keys == nil {
		h.compared = time.Time{}
		h.setSplits(0)
		return
	}
	if time.Since(h.compared) < compareEvery {
		return
	}
	h.compared = time.Now()
	keys, err := h.Keys()
	if err != nil || len(keys) == 0 {
		return
	}
	own, err := h.pending(ctx, maxPending)
	if err != nil {
		return // the log has it from elsewhere
	}
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	set := map[string]agent.Pending{h.ownName(): own}
	for _, b := range others {
		position, is := strings.CutPrefix(b.Name, h.clients())
		if !is {
			continue // a tiebreaker has no agent
		}
		at := net.JoinHostPort(b.Host, strconv.Itoa(h.AgentPort))
		p, err := h.client.Pending(ctx, at, agent.Audience(h.Namespace, h.Pool, position), agent.PendingRequest{Limit: maxPending}, keys)
		if err == nil {
			set[b.Name] = p
		}
	}
	splits := len(agent.Splits(set))
	if splits > 0 {
		h.Log.Info("bricks hold each other to be wrong; 'atoll heal split-brain' lists about what", "entries", splits)
	}
	h.setSplits(splits)
}

func (h *Healer) setSplits(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.splits = n
}

// Splits is how many entries nobody can read, as of the last comparison.
func (h *Healer) Splits() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.splits
}
