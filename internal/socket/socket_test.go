package socket

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// TestServe serves on a socket of mode 0600, over what an earlier process left, until the
// context ends.
func TestServe(t *testing.T) {
	for name, serve := range map[string]func(ctx context.Context, path string) error{
		"grpc": func(ctx context.Context, path string) error { return Serve(ctx, grpc.NewServer(), path) },
		"http": func(ctx context.Context, path string) error { return ServeHTTP(ctx, &http.Server{}, path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- serve(ctx, path) }()
			waitForSocket(t, path)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			if err := serve(t.Context(), filepath.Join(path, "no/directory")); err == nil {
				t.Error("served in a directory that does not exist")
			}
		})
	}
}

func waitForSocket(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		info, err := os.Stat(path)
		if err == nil && info.Mode()&os.ModeSocket != 0 && info.Mode().Perm() == 0o600 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("socket %v, %v", info, err)
		}
	}
}
