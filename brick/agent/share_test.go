package agent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/linux/filesystem/fstest"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// onXFS puts the server's brick on a file system with shared blocks (reflink).
func onXFS(t *testing.T, s *Server) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := exec.LookPath("mkfs.xfs"); err != nil {
		t.Skip("mkfs.xfs is not installed: run make deps")
	}
	fstest.MountXFS(t, s.Directory)
}

// TestShareContent: content is shared where the file system can, only from volumes and
// snapshots to unfinished copies, and not while bricks may differ.
func TestShareContent(t *testing.T) {
	h, s := newServer(t)
	onXFS(t, s)
	const source, made = "blocks/volumes/ab/cd/pvc-1", "blocks/copies/snapshot-s.0"
	content := bytes.Repeat([]byte("content!"), 64<<10)
	write := func(path string, data []byte, size int64) {
		t.Helper()
		path = filepath.Join(s.Directory, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	set := func(path, name string, value []byte) {
		t.Helper()
		path = filepath.Join(s.Directory, path)
		err := unix.Setxattr(path, name, value, 0)
		if value == nil {
			err = unix.Removexattr(path, name)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	share := func(from, to string) (agent.Shared, int) {
		t.Helper()
		body, err := json.Marshal(agent.ShareRequest{From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		r, answer := signedRequest(t, h.URL+agent.PathShare, body), agent.ShareAnswer{}
		a, err := h.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if a.StatusCode == http.StatusOK {
			err = json.NewDecoder(a.Body).Decode(&answer)
		}
		if err != nil {
			t.Fatal(err)
		}
		return answer.Shared, a.StatusCode
	}
	check := func(when string, from, to string, want agent.Shared, code int) {
		t.Helper()
		if got, status := share(from, to); got != want || status != code {
			t.Errorf("%s: %q, status %d", when, got, status)
		}
	}
	check("nothing is there", source, made, agent.ShareAbsent, 200)
	write(source, content, 1<<20)
	check("there is no copy", source, made, agent.ShareApart, 200)
	write(made, nil, 1<<20)
	set(source, "trusted.afr.p-client-1", []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	check("pending for another brick", source, made, agent.ShareUnlike, 200)
	set(source, "trusted.afr.p-client-1", make([]byte, 12))
	set(made, "trusted.ec.dirty", []byte{0, 0, 0, 0, 0, 0, 0, 1})
	check("the copy is dirty", source, made, agent.ShareUnlike, 200)
	set(made, "trusted.ec.dirty", make([]byte, 16))
	check("source and copy are clean", source, made, agent.ShareDone, 200)
	if got, err := os.ReadFile(filepath.Join(s.Directory, made)); err != nil ||
		!bytes.Equal(got[:len(content)], content) || len(got) != 1<<20 {
		t.Errorf("the copy has %d bytes, %v", len(got), err)
	}
	set(source, ondisk.LinkAttribute, []byte("p-replicate-1\x00"))
	check("the source is on another set", source, made, agent.ShareAbsent, 200)
	set(source, ondisk.LinkAttribute, nil)
	write(made, nil, 2<<20)
	check("the copy is larger", source, made, "", 500)
	write(made, nil, 1<<20)
	set(made, "trusted.atoll.volume", []byte("{}"))
	check("the copy is already a volume", source, made, "", 500)
	for _, to := range []string{
		"blocks/volumes/ab/cd/pvc-2", "../x", "blocks/copies/../volumes/x", "blocks/copies/",
		"",
	} {
		check("to "+to, source, to, "", 400)
	}
	for _, from := range []string{"subvol/ab/cd/v", ".glusterfs/x", "/etc/passwd", "blocks/copies/x"} {
		check("from "+from, from, made, "", 400)
	}
	if err := os.Remove(filepath.Join(s.Directory, source)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(s.Directory, source)); err != nil {
		t.Fatal(err)
	}
	check("the source is a link out of the brick", source, made, "", 500)
}
