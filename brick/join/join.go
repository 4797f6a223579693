// Package join decides whether a brick that was created empty is a founder of its set or
// has to be healed from it, before it serves clients. Otherwise clients would trust its
// empty root as much as the others' and list nothing.
package join

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// Intervals, and the limit of one poll.
const (
	pollEvery = time.Second
	logEvery  = 10 * time.Second
	peerLimit = 3 * time.Second
)

// Brick is the brick that joins.
type Brick struct {
	Pool, Position string
	Directory      string
	Volfile        string // of the self-heal daemon: it names the brick's set
	AgentPort      int
	Log            logr.Logger
}

// Run returns when the brick may serve. It can be repeated, and interrupted anywhere.
func (b Brick) Run(ctx context.Context) error {
	root, err := os.OpenRoot(b.Directory)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer root.Close()
	own, err := root.Open(ondisk.GlusterDir)
	if err != nil {
		return fmt.Errorf("open brick: %w", err)
	}
	defer own.Close()
	id, err := joiningMark(own)
	if err != nil || id == "" {
		return err // "": it has joined already
	}
	founders, lacks, err := b.decide(ctx, id)
	if err != nil {
		return err
	}
	if !lacks {
		if err := unix.Fsetxattr(int(own.Fd()), ondisk.FoundersAttribute, []byte(strings.Join(founders, " ")),
			0); err != nil {
			return fmt.Errorf("set attribute %s: %w", ondisk.FoundersAttribute, err)
		}
	}
	b.Log.Info("the brick has joined its set", "needsHealing", lacks)
	if err := unix.Fremovexattr(int(own.Fd()), ondisk.JoiningAttribute); err != nil {
		return fmt.Errorf("remove attribute %s: %w", ondisk.JoiningAttribute, err)
	}
	return own.Sync()
}

// joiningMark is the random ID with which a brick joins, "" if it has joined.
func joiningMark(own *os.File) (string, error) {
	value := make([]byte, 256)
	n, err := unix.Fgetxattr(int(own.Fd()), ondisk.JoiningAttribute, value)
	if errors.Is(err, unix.ENODATA) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read attribute %s: %w", ondisk.JoiningAttribute, err)
	}
	return string(value[:n]), nil
}

// decide returns once the brick's part in its set is certain. The brick is a founder if all
// others are joining too, or if one that has joined counts it among the founders: nothing
// can have been written without that one, which has pending counters for what this brick
// lacks, as for any brick that was offline. The brick has to be healed if at least one of
// the others, and every one that answers, has marked everything as pending for it.
// Otherwise decide waits for those that do not answer.
func (b Brick) decide(ctx context.Context, id string) (founders []string, lacks bool, err error) {
	var logged time.Time
	for {
		peers, err := b.peers()
		if err != nil {
			return nil, false, err
		}
		states := b.queryPeers(ctx, peers, id)
		switch {
		case states.marking > 0 && states.unmarked == 0:
			return nil, true, nil
		case states.founders > 0 || len(states.joining) == len(peers):
			return states.joining, false, nil
		}
		if time.Since(logged) > logEvery {
			logged = time.Now()
			b.Log.Info("this brick is new and waits for the others of its set, which may have data", "withData",
				states.unmarked+states.marking, "silent", states.silent)
		}
		select {
		case <-ctx.Done():
			return nil, false, fmt.Errorf("wait for the other bricks of the set: %w", ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// peers are the set's other bricks with data. There are none in a set of one brick, and in
// a disperse set, where GlusterFS itself detects what a brick lacks.
func (b Brick) peers() ([]gluster.HealBrick, error) {
	text, err := os.ReadFile(b.Volfile)
	if err != nil {
		return nil, fmt.Errorf("read the volfile of the set: %w", err)
	}
	sets, err := gluster.ParseHealers(string(text))
	if err != nil {
		return nil, err
	}
	set, others, found := sets.Around(b.clientName())
	if !found || set.Disperse {
		return nil, nil
	}
	return slices.DeleteFunc(others,
		func(one gluster.HealBrick) bool { return !strings.HasPrefix(one.Name, b.Pool+"-client-") }), nil
}

// clientName is the name of the brick's client in the pool's graphs.
func (b Brick) clientName() string { return b.Pool + "-client-" + b.Position }

// peerStates sums up the states of the set's other bricks.
type peerStates struct {
	joining  []string // joining marks of those that are joining too
	founders int      // joined, and count this brick among the founders
	marking  int      // joined without this brick, and have marked everything as pending for it
	unmarked int      // have not marked it, and serve clients
	silent   []string // hosts of those that do not answer
}

func (b Brick) queryPeers(ctx context.Context, peers []gluster.HealBrick, id string) (a peerStates) {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	addresses := make([]string, len(peers))
	for i, peer := range peers {
		addresses[i] = net.JoinHostPort(peer.Host, strconv.Itoa(b.AgentPort))
	}
	var client agent.Client
	for i, s := range client.Statuses(ctx, addresses...) {
		switch {
		case s.Err != nil:
			a.silent = append(a.silent, peers[i].Host)
		case s.Joining != "":
			a.joining = append(a.joining, s.Joining)
		case slices.Contains(s.Founders, id):
			a.founders++
		case slices.Contains(s.Lacking, id):
			a.marking++
		case s.Online:
			a.unmarked++
		default: // it has data, and no client can write there now
			a.silent = append(a.silent, peers[i].Host)
		}
	}
	return a
}
