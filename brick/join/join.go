// Package join decides what a brick that was made empty is to its set, before it serves
// anybody: one of the first, or one that lacks what the others have. Otherwise clients
// would take its empty root for as good as the others' and list nothing.
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

// Times.
const (
	look      = time.Second
	tell      = 10 * time.Second
	peerLimit = 3 * time.Second
)

// Brick is the one that joins.
type Brick struct {
	Pool, Position string
	Directory      string
	Volfile        string // of the self-heal daemon, which has the brick's set
	AgentPort      int
	Log            logr.Logger
}

// Run returns when the brick may serve. It can be repeated, and be cut off anywhere.
func (b Brick) Run(ctx context.Context) error {
	root, err := os.OpenRoot(b.Directory)
	if err != nil {
		return fmt.Errorf("opening the brick: %w", err)
	}
	defer root.Close()
	own, err := root.Open(ondisk.GlusterDir)
	if err != nil {
		return fmt.Errorf("opening the brick: %w", err)
	}
	defer own.Close()
	id, err := joining(own)
	if err != nil || id == "" {
		return err // "" is one that has joined
	}
	founders, lacks, err := b.decide(ctx, id)
	if err != nil {
		return err
	}
	if !lacks {
		if err := unix.Fsetxattr(int(own.Fd()), ondisk.FoundersAttribute, []byte(strings.Join(founders, " ")), 0); err != nil {
			return fmt.Errorf("setting %s: %w", ondisk.FoundersAttribute, err)
		}
	}
	b.Log.Info("the brick has joined its set", "lacksWhatOthersHave", lacks)
	if err := unix.Fremovexattr(int(own.Fd()), ondisk.JoiningAttribute); err != nil {
		return fmt.Errorf("removing %s: %w", ondisk.JoiningAttribute, err)
	}
	return own.Sync()
}

// joining is as which a brick joins, "" when it has joined.
func joining(own *os.File) (string, error) {
	value := make([]byte, 256)
	n, err := unix.Fgetxattr(int(own.Fd()), ondisk.JoiningAttribute, value)
	if errors.Is(err, unix.ENODATA) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", ondisk.JoiningAttribute, err)
	}
	return string(value[:n]), nil
}

// decide returns when it is known what the brick is to its set. It is one of the first
// when all others are joining too, or one has counted it among the first: nothing can have
// been written since without that one, which then holds it against this brick as against
// any that was away. It lacks what others have when one of them has noted that, and all that
// answer. Else one that does not answer has to be waited for.
func (b Brick) decide(ctx context.Context, id string) (founders []string, lacks bool, err error) {
	var told time.Time
	for {
		peers, err := b.peers()
		if err != nil {
			return nil, false, err
		}
		a := b.ask(ctx, peers, id)
		switch {
		case a.noted > 0 && a.older == 0:
			return nil, true, nil
		case a.counted > 0 || len(a.joining) == len(peers):
			return a.joining, false, nil
		}
		if time.Since(told) > tell {
			told = time.Now()
			b.Log.Info("this brick is new and waits for the others of its set: they may have what it lacks", "haveIt", a.older+a.noted, "silent", a.silent)
		}
		select {
		case <-ctx.Done():
			return nil, false, fmt.Errorf("waiting for the other bricks of the set: %w", ctx.Err())
		case <-time.After(look):
		}
	}
}

// peers are the other bricks of the set that have data; none in a set of one, and where
// GlusterFS itself sees that a brick lacks something (cluster/disperse).
func (b Brick) peers() ([]gluster.HealBrick, error) {
	text, err := os.ReadFile(b.Volfile)
	if err != nil {
		return nil, fmt.Errorf("reading the volfile of the set: %w", err)
	}
	sets, err := gluster.ParseHealers(string(text))
	if err != nil {
		return nil, err
	}
	set, others, found := sets.Around(b.client())
	if !found || set.Coded {
		return nil, nil
	}
	return slices.DeleteFunc(others, func(one gluster.HealBrick) bool { return !strings.HasPrefix(one.Name, b.Pool+"-client-") }), nil
}

// client is the name of the brick in its pool's graphs.
func (b Brick) client() string { return b.Pool + "-client-" + b.Position }

// answers are those of the other bricks of a set.
type answers struct {
	joining []string // are joining too, as which
	counted int      // have joined, and count this one among the first
	noted   int      // have joined without this one, and have noted what it lacks
	older   int      // have not noted it, and serve clients
	silent  []string // their hosts
}

func (b Brick) ask(ctx context.Context, peers []gluster.HealBrick, id string) (a answers) {
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
			a.counted++
		case slices.Contains(s.Lacking, id):
			a.noted++
		case s.Online:
			a.older++
		default: // it has data, and nobody writes there now
			a.silent = append(a.silent, peers[i].Host)
		}
	}
	return a
}
