package gluster

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// newBricksLimit is how long all bricks together may take to answer.
const newBricksLimit = 3 * time.Second

// NewSilentBricks lists the bricks of a graph's new sets, compared with the former graph,
// that do not answer yet, as host:port. A client that switches to a graph before its bricks
// are online cannot create files that belong on them. A brick that joins an existing set is
// not listed: the sooner clients know it, the less it lacks.
func NewSilentBricks(ctx context.Context, former, volfile string) ([]string, error) {
	before, err := parseGraph(former)
	if err != nil {
		return nil, fmt.Errorf("parse the former graph: %w", err)
	}
	now, err := parseGraph(volfile)
	if err != nil {
		return nil, fmt.Errorf("parse the graph: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, newBricksLimit)
	defer cancel()
	var mu sync.Mutex
	var silent []string
	var wait sync.WaitGroup
	known := func(name string) bool {
		return slices.ContainsFunc(before.bricks, func(o *volume) bool { return o.name == name })
	}
	for _, b := range now.bricks {
		if known(b.name) || slices.ContainsFunc(now.siblings(b.name), known) {
			continue
		}
		wait.Go(func() {
			address := net.JoinHostPort(b.options["remote-host"], b.options["remote-port"])
			if err := Ping(ctx, address); err != nil {
				mu.Lock()
				defer mu.Unlock()
				silent = append(silent, address)
			}
		})
	}
	wait.Wait()
	slices.Sort(silent)
	return silent, nil
}
