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
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-storage/atoll/internal/gluster/specs"
)

// Every is how often files are looked at. A kubelet brings a changed ConfigMap to its
// pods within about a minute.
const Every = 2 * time.Second

// maxVolfile is the longest volfile that is read, in bytes: a ConfigMap has at most 1 MiB.
const maxVolfile = 1 << 20

// Server serves files.
type Server struct {
	// Files are paths by the names that daemons ask for.
	Files map[string]string
	Log   logr.Logger
}

// Run serves on a listener until the context ends. All files must be there when it
// begins; later, one that cannot be read stays what it was.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	server := specs.New(s.Log)
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
func (s *Server) read(server *specs.Server) error {
	var errs []error
	for name, path := range s.Files {
		text, err := readFile(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading the volfile %s: %w", name, err))
			continue
		}
		if server.Set(name, text) {
			s.Log.Info("serving a volfile", "name", name)
		}
	}
	return errors.Join(errs...)
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
