package gluster

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestArgs(t *testing.T) {
	s := Server{
		Hosts: []string{"a", "b"}, Volume: "v",
		Options: []string{"log-level=INFO", "acl", "backup-volfile-servers=c:d"},
	}
	got, err := s.Args("/mnt")
	want := []string{
		"--no-daemon", "--xlator-option=*-client-*.transport.tcp-user-timeout=10",
		"--xlator-option=*-client-*.transport.socket.keepalive-time=5",
		"--xlator-option=*-client-*.transport.socket.keepalive-interval=1", "--volfile-server=a", "--volfile-server=b", "--volfile-server=c", "--volfile-server=d",
		"--volfile-server-port=24007", "--volfile-id=/v", "--log-level=INFO", "--acl", "/mnt",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("arguments %q, %v", got, err)
	}
	for _, o := range []string{"volfile=/etc/passwd", "process-name=x", "log-level", "log-level=", "acl=1", ""} {
		s.Options = []string{o}
		if got, err := s.Args("/mnt"); !errors.Is(err, ErrOption) {
			t.Errorf("option %q: %q, %v", o, got, err)
		}
	}
	for _, s := range []Server{{Volume: "v"}, {Hosts: []string{"a"}}, {Hosts: []string{"a"}, Volume: "-x"}} {
		if _, err := s.Args("/mnt"); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
}

func TestWaitMounted(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := WaitMounted(ctx, t.TempDir()); !errors.Is(err, errNotMounted) ||
		!errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
