package mounts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/csi/blockdev"
)

// start serves calls on a socket until the test ends, and returns a Remote for it.
func start(t *testing.T, calls http.Handler) *Remote {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	go func() {
		if err := serve(t.Context(), calls, path); err != nil {
			t.Error(err)
		}
	}()
	r := NewRemote(path)
	t.Cleanup(r.Close)
	return r
}

func limited(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// TestErrorNames sends every error that has a name: the caller gets the whole text, and an
// error that is the same sentinel.
func TestErrorNames(t *testing.T) {
	for _, n := range errorNames {
		err := fmt.Errorf("attach volume v: %w: node n-2", n.err)
		mux := http.NewServeMux()
		handle(mux, pathAttach, func(context.Context, blockRequest) (deviceResponse, error) {
			return deviceResponse{}, err
		})
		_, got := start(t, mux).Attach(limited(t, 10*time.Second), "p", "v")
		if !errors.Is(got, n.err) || got.Error() != err.Error() {
			t.Errorf("%s: got %v", n.name, got)
		}
		for _, other := range errorNames {
			if other.name != n.name && errors.Is(got, other.err) {
				t.Errorf("%s is also %s", n.name, other.name)
			}
		}
	}
	mux := http.NewServeMux()
	handle(mux, pathDetach, func(context.Context, blockRequest) (empty, error) {
		return empty{}, errors.New("disk failure")
	})
	err := start(t, mux).Detach(limited(t, 10*time.Second), "p", "v")
	if err == nil || err.Error() != "disk failure" || errors.Is(err, ErrUnreachable) {
		t.Errorf("an error without a name: %v", err)
	}
}

// TestDeadlineOfServer: the server may notice first that the caller's time is over.
func TestDeadlineOfServer(t *testing.T) {
	mux := http.NewServeMux()
	handle(mux, pathDetach, func(context.Context, blockRequest) (empty, error) {
		return empty{}, fmt.Errorf("attach: %w", context.DeadlineExceeded)
	})
	if err := start(t, mux).Detach(limited(t, 10*time.Second), "p", "v"); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
}

// TestResponse sends a request and its response.
func TestResponse(t *testing.T) {
	want := blockdev.Device{Path: "/dev/loop7", Label: "l", Size: 1 << 40, Epoch: 3, FileSystem: "xfs", Shared: true}
	mux := http.NewServeMux()
	handle(mux, pathGrow, func(_ context.Context, r blockRequest) (deviceResponse, error) {
		if r != (blockRequest{Pool: "p", Name: "v"}) {
			t.Errorf("request %+v", r)
		}
		return deviceResponse{want}, nil
	})
	if got, err := start(t, mux).Grow(limited(t, 10*time.Second), "p", "v"); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestCallEndsWithCaller ends a call on the server when its caller reaches its deadline, and
// when it gives up.
func TestCallEndsWithCaller(t *testing.T) {
	began, ended := make(chan bool, 1), make(chan error, 1)
	mux := http.NewServeMux()
	handle(mux, pathAttach, func(ctx context.Context, _ blockRequest) (deviceResponse, error) {
		began <- true
		<-ctx.Done()
		ended <- ctx.Err()
		return deviceResponse{}, ctx.Err()
	})
	r := start(t, mux)
	_, err := r.Attach(limited(t, 300*time.Millisecond), "p", "v")
	if !errors.Is(err, ErrUnreachable) {
		t.Errorf("after the deadline: %v", err)
	}
	<-began
	if err := <-ended; err == nil {
		t.Error("the server's context did not end")
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-began
		cancel()
	}()
	if _, err := r.Attach(ctx, "p", "v"); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrUnreachable) {
		t.Errorf("canceled: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("on the server: %v", err)
	}
}

// TestDeadlineReachesServer sends the caller's deadline along.
func TestDeadlineReachesServer(t *testing.T) {
	mux := http.NewServeMux()
	handle(mux, pathLost, func(ctx context.Context, _ blockRequest) (blockdev.Losses, error) {
		deadline, limited := ctx.Deadline()
		if left := time.Until(deadline); !limited || left > time.Minute || left < 30*time.Second {
			t.Errorf("the server's deadline is in %s, %t", left, limited)
		}
		return blockdev.Losses{}, nil
	})
	if _, err := start(t, mux).Lost(limited(t, time.Minute)); err != nil {
		t.Error(err)
	}
}

// TestServerStartsLater makes a call before the server listens, and calls after it has been
// replaced.
func TestServerStartsLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := NewRemote(path)
	defer r.Close()
	mux := http.NewServeMux()
	handle(mux, pathDetach, func(context.Context, blockRequest) (empty, error) { return empty{}, nil })
	for range 2 {
		done := make(chan error, 1)
		go func() { done <- r.Detach(limited(t, 20*time.Second), "p", "v") }()
		time.Sleep(2 * minDelay)
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- serve(ctx, mux, path) }()
		if err := <-done; err != nil {
			t.Error(err)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
	err := r.Detach(limited(t, 4*minDelay), "p", "v")
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "the mount server does not respond") {
		t.Errorf("without a server: %v", err)
	}
}

// TestServerHangs calls a server that accepts connections and does not respond.
func TestServerHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := NewRemote(path)
	defer r.Close()
	err = r.Detach(limited(t, 200*time.Millisecond), "p", "v")
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "the mount server does not respond") {
		t.Errorf("got %v", err)
	}
}

// TestUnknownCall makes a call that the server does not know: it is older, or has no block
// volumes.
func TestUnknownCall(t *testing.T) {
	_, err := start(t, (&Server{}).calls()).Attach(limited(t, 10*time.Second), "p", "v")
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "older than the node plugin") {
		t.Errorf("got %v", err)
	}
}
