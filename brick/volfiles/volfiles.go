// Package volfiles serves volfiles to the daemons of a brick pod: when a file changes,
// as the files of a ConfigMap do, they take the new one while they run.
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

// Every is how often files are looked at. A kubelet brings a changed ConfigMap to its
// pods within about a minute.
const Every = 2 * time.Second

// Hold is the default of Server.Hold: longer than a kubelet takes to bring a changed
// ConfigMap to the driver of its node.
const Hold = 3 * time.Minute

// maxVolfile is the longest volfile that is read, in bytes: a ConfigMap has at most 1 MiB.
const maxVolfile = 1 << 20

// Server serves files.
type Server struct {
	// Files are paths by the names that daemons ask for.
	Files map[string]string
	// Hold is how long a brick keeps letting clients in whom its new volfile refuses: they
	// have a graph of fewer copies, and need time to get the new one as well.
	Hold time.Duration
	Log  logr.Logger

	held map[string]refusal // by name
}

// refusal is a volfile that is held back.
type refusal struct {
	users []string
	since time.Time
}

// Run serves on a listener until the context ends. All files must be there when it
// begins; later, one that cannot be read stays what it was.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := volfileserver.New(s.Log)
	if err := s.read(server); err != nil {
		return errors.Join(err, l.Close())
	}
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
				if err := s.read(server); err != nil {
					s.Log.Error(err, "daemons keep the volfile that they have")
				}
			}
		}
	})
	return g.Wait()
}

// read gives all files to the server, which tells who has one that has changed.
func (s *Server) read(server *volfileserver.Server) error {
	var errs []error
	for name, path := range s.Files {
		text, err := readFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading the volfile %s: %w", name, err))
			continue
		}
		if former, known := server.Get(name); known && s.hold(name, former, text) {
			continue
		}
		if server.Set(name, text) {
			s.Log.Info("serving a volfile", "name", name)
		}
	}
	return errors.Join(errs...)
}

// hold tells whether a changed volfile has to wait, because it refuses clients that are
// there.
func (s *Server) hold(name, former, text string) bool {
	before, err := gluster.Users(former)
	now, bad := gluster.Users(text)
	refuses := err == nil && bad == nil && len(now) > 0 && slices.ContainsFunc(before, func(user string) bool { return !slices.Contains(now, user) })
	if !refuses {
		delete(s.held, name)
		return false
	}
	if s.held == nil {
		s.held = map[string]refusal{}
	}
	held, waits := s.held[name]
	if !waits || !slices.Equal(held.users, now) {
		held = refusal{now, time.Now()}
		s.held[name] = held
		s.Log.Info("a brick's volfile waits until clients have theirs", "name", name, "for", s.Hold.String(), "letsIn", now)
	}
	return time.Since(held.since) < s.Hold
}

// readFile reads a volfile; one that is not whole is an error.
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
