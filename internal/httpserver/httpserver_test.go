package httpserver

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestServe ends a server during a request: one that ends in time is answered, one that does not is cut
// off.
func TestServe(t *testing.T) {
	for name, c := range map[string]struct {
		last     time.Duration
		answered bool
	}{"in time": {time.Minute, true}, "too slow": {time.Millisecond, false}} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			release := make(chan struct{})
			handler := func(w http.ResponseWriter, r *http.Request) {
				cancel()
				if !c.answered {
					<-r.Context().Done() // until it is cut off
					close(release)
				}
				_, _ = io.WriteString(w, "ok")
			}
			done := make(chan error, 1)
			go func() { done <- Serve(ctx, &http.Server{Handler: http.HandlerFunc(handler)}, l, c.last) }()
			answer, err := http.Get("http://" + l.Addr().String())
			if err == nil {
				answer.Body.Close()
			}
			if (err == nil) != c.answered {
				t.Errorf("error %v, want an answer: %t", err, c.answered)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			if !c.answered {
				<-release
			}
		})
	}
}

// TestListen cannot listen on an address of another machine, and says on which one.
func TestListen(t *testing.T) {
	if err := Listen(t.Context(), &http.Server{}, "192.0.2.1:1"); err == nil {
		t.Error("no error")
	}
}
