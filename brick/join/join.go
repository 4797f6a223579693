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
	"sync"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/volume"
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
	own, err := root.Open(volume.Own)
	if err != nil {
		return fmt.Errorf("opening the brick: %w", err)
	}
	defer own.Close()
	if _, err := unix.Fgetxattr(int(own.Fd()), volume.JoiningAttribute, nil); errors.Is(err, unix.ENODATA) {
		return nil // it has joined
	} else if err != nil {
		return fmt.Errorf("reading %s: %w", volume.JoiningAttribute, err)
	}
	lacks, err := b.decide(ctx)
	if err != nil {
		return err
	}
	b.Log.Info("the brick has joined its set", "lacksWhatOthersHave", lacks)
	if err := unix.Fremovexattr(int(own.Fd()), volume.JoiningAttribute); err != nil {
		return fmt.Errorf("removing %s: %w", volume.JoiningAttribute, err)
	}
	return nil
}

// decide returns when it is known whether another brick of the set may have what this one
// lacks. One that has joined may, and must have noted that this one lacks it. When all
// others are joining too, the set is a new one. One that does not answer has to be waited
// for.
func (b Brick) decide(ctx context.Context) (lacks bool, err error) {
	var told time.Time
	for {
		peers, err := b.peers()
		if err != nil {
			return false, err
		}
		joined, noted, silent := b.ask(ctx, peers)
		switch {
		case noted > 0:
			return true, nil
		case joined == 0 && len(silent) == 0:
			return false, nil
		}
		if time.Since(told) > tell {
			told = time.Now()
			b.Log.Info("this brick is new and waits for the others of its set: they may have what it lacks", "haveIt", joined, "silent", silent)
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("waiting for the other bricks of the set: %w", ctx.Err())
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
	for _, set := range sets {
		var others []gluster.HealBrick
		found := false
		for _, one := range set.Bricks {
			switch {
			case one.Name == b.client():
				found = true
			case strings.HasPrefix(one.Name, b.Pool+"-client-"):
				others = append(others, one)
			}
		}
		if found && !set.Coded {
			return others, nil
		}
	}
	return nil, nil
}

// client is the name of the brick in its pool's graphs.
func (b Brick) client() string { return b.Pool + "-client-" + b.Position }

// ask counts the peers that have joined, and those of them that have noted what this one
// lacks, and lists the ones that do not answer.
func (b Brick) ask(ctx context.Context, peers []gluster.HealBrick) (joined, noted int, silent []string) {
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	errs := make([]error, len(peers))
	answers := make([]agent.Status, len(peers))
	var wait sync.WaitGroup
	var client agent.Client
	for i, peer := range peers {
		wait.Go(func() {
			answers[i], errs[i] = client.Status(ctx, net.JoinHostPort(peer.Host, strconv.Itoa(b.AgentPort)))
		})
	}
	wait.Wait()
	for i, peer := range peers {
		switch {
		case errs[i] != nil:
			silent = append(silent, peer.Host)
		case answers[i].Joining:
		default:
			joined++
			if slices.Contains(answers[i].Lacking, b.client()) {
				noted++
			}
		}
	}
	return joined, noted, silent
}
