// Package volfiles serves volfiles to the daemons of a brick pod. When a file changes, as
// the files of a mounted ConfigMap do, the daemons switch to the new one while they run.
package volfiles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/gluster/volfileserver"
)

// Every is how often files are read. A kubelet updates a mounted ConfigMap within about a
// minute.
const Every = 2 * time.Second

// Hold is the default of Server.Hold: longer than a kubelet takes to update the mounted
// ConfigMap of the driver on its node.
const Hold = 3 * time.Minute

// replacedLimit is how long the answer whether the brick was replaced may take.
const replacedLimit = 2 * time.Second

// maxVolfile is the largest volfile that is read, in bytes: a ConfigMap has at most 1 MiB.
const maxVolfile = 1 << 20

// Server serves files.
type Server struct {
	// Files are paths by volfile ID.
	Files map[string]string
	// Hold is how long a brick continues to admit clients that its new volfile refuses: they
	// have a graph with fewer replicas, and need time to get the new one.
	Hold time.Duration
	// Replaced reports whether another brick has replaced the one of this pod, and why its
	// daemons must end; nil if nothing can.
	Replaced func(context.Context) (reason string, err error)
	Log      logr.Logger

	heldBack map[string]refusal // by name
}

// refusal is a volfile that is held back.
type refusal struct {
	users []string
	since time.Time
}

// Run serves on a listener until the context ends. All files must be readable at the start;
// if one cannot be read later, its last content stays.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := volfileserver.New(s.Log)
	if err := s.readAll(server); err != nil {
		return errors.Join(err, l.Close())
	}
	s.withdraw(ctx, server)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Serve(ctx, l) })
	g.Go(func() error {
		tick := time.NewTicker(Every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := s.readAll(server); err != nil {
					s.Log.Error(err, "cannot read volfiles; daemons keep those they have")
				}
				s.withdraw(ctx, server)
			}
		}
	})
	return g.Wait()
}

// withdraw ends the daemons once the brick was replaced. Clients would go on to use it beside
// the one that has replaced it, which would then lack what they write.
func (s *Server) withdraw(ctx context.Context, server *volfileserver.Server) {
	if s.Replaced == nil || server.Withdrawn() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, replacedLimit)
	defer cancel()
	reason, err := s.Replaced(ctx)
	if err != nil || reason == "" {
		return // its agent starts after this process, and says why it does not answer
	}
	server.Withdraw()
	s.Log.Info("another brick has replaced this one; its daemons end", "reason", reason)
}

// readAll passes all files to the server, which notifies the daemons of changed ones.
func (s *Server) readAll(server *volfileserver.Server) error {
	var errs []error
	for name, path := range s.Files {
		text, err := readFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("read volfile %s: %w", name, err))
			continue
		}
		if former, known := server.Get(name); known && s.holdBack(name, former, text) {
			continue
		}
		if server.Set(name, text) {
			s.Log.Info("serving a volfile", "name", name)
		}
	}
	return errors.Join(errs...)
}

// holdBack reports whether a changed volfile has to wait because it refuses clients that
// are admitted at present.
func (s *Server) holdBack(name, former, text string) bool {
	before, err := gluster.AdmittedUsers(former)
	now, bad := gluster.AdmittedUsers(text)
	refuses := err == nil && bad == nil && len(now) > 0 &&
		slices.ContainsFunc(before, func(user string) bool { return !slices.Contains(now, user) })
	if !refuses {
		delete(s.heldBack, name)
		return false
	}
	if s.heldBack == nil {
		s.heldBack = map[string]refusal{}
	}
	held, waits := s.heldBack[name]
	if !waits || !slices.Equal(held.users, now) {
		held = refusal{now, time.Now()}
		s.heldBack[name] = held
		s.Log.Info("holding back a brick's volfile until clients have theirs", "name", name, "for", s.Hold.String(),
			"admits", now)
	}
	return time.Since(held.since) < s.Hold
}

// readFile reads a volfile. An empty or oversized file is an error.
func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxVolfile+1))
	switch {
	case err != nil:
		return "", err
	case len(text) == 0 || len(text) > maxVolfile:
		return "", fmt.Errorf("%s has %d bytes or more; 1 to %d are expected", path, len(text), maxVolfile)
	}
	return string(text), nil
}
