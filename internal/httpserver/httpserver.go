// Package httpserver serves HTTP until a context ends.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// headerLimit is how long a caller may take to send its header, unless the server says so itself.
	headerLimit = 5 * time.Second
	// lastLimit is how long requests in progress may take when the context ends.
	lastLimit = 5 * time.Second
)

// Listen serves on a TCP address such as ":24012" until the context ends, and then gives requests in
// progress five seconds.
func Listen(ctx context.Context, s *http.Server, address string) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	return Serve(ctx, s, l, lastLimit)
}

// Serve serves on a listener until the context ends, and then gives requests in progress some time.
func Serve(ctx context.Context, s *http.Server, l net.Listener, last time.Duration) error {
	if s.ReadHeaderTimeout == 0 {
		s.ReadHeaderTimeout = headerLimit
	}
	ended := make(chan struct{})
	stopped := context.AfterFunc(ctx, func() {
		defer close(ended)
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), last)
		defer cancel()
		if s.Shutdown(limited) != nil {
			_ = s.Close() // its only error is that a listener was closed before
		}
	})
	defer stopped()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	}
	<-ended
	return nil
}
