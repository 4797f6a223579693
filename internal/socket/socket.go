// Package socket serves gRPC on unix sockets.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc"
)

// Serve serves on a socket at path, which a former process may have left there,
// until the context ends. Only the owner can use the socket.
func Serve(ctx context.Context, s *grpc.Server, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the socket of a former process: %w", err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	stopped := context.AfterFunc(ctx, s.GracefulStop)
	defer stopped()
	return s.Serve(l)
}
