// Package socket serves gRPC and HTTP on unix sockets that only their owner can use.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"

	"google.golang.org/grpc"
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

// ServeHTTP serves HTTP on a socket at path until the context ends, and then waits for
// requests in progress.
func ServeHTTP(ctx context.Context, s *http.Server, path string) error {
	l, err := Listen(ctx, path)
	if err != nil {
		return err
	}
	shutdown := make(chan error, 1)
	stopped := context.AfterFunc(ctx, func() { shutdown <- s.Shutdown(context.WithoutCancel(ctx)) })
	defer stopped()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", path, err)
	}
	return <-shutdown
}
