// Package socket serves gRPC and HTTP on unix sockets that only their owner can use.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/atoll-storage/atoll/internal/httpserver"
)

// Listen creates a socket at path with mode 0600. A socket that an earlier process left there
// is replaced.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of an earlier process: %w", err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Serve serves gRPC on a socket at path until the context ends, and then waits for calls in
// progress.
func Serve(ctx context.Context, s *grpc.Server, path string) error {
	l, err := Listen(ctx, path)
	if err != nil {
		return err
	}
	stopped := context.AfterFunc(ctx, s.GracefulStop)
	defer stopped()
	return s.Serve(l)
}

// maxRequest is longer than any request of the mount server takes.
const maxRequest = 5 * time.Minute

// ServeHTTP serves HTTP on a socket at path until the context ends, and then waits for
// requests in progress.
func ServeHTTP(ctx context.Context, s *http.Server, path string) error {
	l, err := Listen(ctx, path)
	if err != nil {
		return err
	}
	return httpserver.Serve(ctx, s, l, maxRequest)
}
