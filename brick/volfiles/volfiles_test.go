package volfiles

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/gluster/specs"
)

// TestFilesThatCannotBeServed: a server that begins without a file would have its
// daemons fail, and one that loses a file keeps what it had. tests/podrun has daemons.
func TestFilesThatCannotBeServed(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, make([]byte, maxVolfile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), long, empty, dir} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := Server{Files: map[string]string{"p": path}, Log: logr.Discard()}
		if err := s.Run(context.Background(), l); err == nil || !strings.Contains(err.Error(), "reading the volfile p") {
			t.Errorf("%s: %v", path, err)
		}
	}
	good := filepath.Join(dir, "good")
	if err := os.WriteFile(good, []byte("volume a"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := Server{Files: map[string]string{"p": good}, Log: logr.Discard()}
	server := specs.New(logr.Discard())
	if err := s.read(server); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(good); err != nil {
		t.Fatal(err)
	}
	if err := s.read(server); err == nil {
		t.Error("a file that has gone is not told of")
	}
	if server.Set("p", "volume a") {
		t.Error("the volfile has gone with its file")
	}
}
