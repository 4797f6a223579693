package agent

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/linux/filesystem/fstest"
)

// onXFS puts the server's brick on a file system whose files can share blocks.
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

// signed is a request of somebody who has the key.
func signed(t *testing.T, url string, body []byte) *http.Request {
	t.Helper()
	token, err := agent.Keys{key}.Sign("n/p/0", body, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// TestShare: content is shared where that can be, between what may be, and not while bricks
// may differ.
func TestShare(t *testing.T) {
	h, s := server(t)
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
	ask := func(from, to string) (agent.Shared, int) {
		t.Helper()
		body, err := json.Marshal(agent.ShareRequest{From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}
		r, answer := signed(t, h.URL+agent.PathShare, body), agent.ShareAnswer{}
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
	holds := func(when string, from, to string, want agent.Shared, code int) {
		t.Helper()
		if got, status := ask(from, to); got != want || status != code {
			t.Errorf("%s: %q, status %d", when, got, status)
		}
	}
	holds("nothing is there", source, made, agent.ShareAbsent, 200)
	write(source, content, 1<<20)
	holds("there is no copy", source, made, agent.ShareApart, 200)
	write(made, nil, 1<<20)
	set(source, "trusted.afr.p-client-1", []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	holds("another brick lacks something", source, made, agent.ShareUnlike, 200)
	set(source, "trusted.afr.p-client-1", make([]byte, 12))
	set(made, "trusted.ec.dirty", []byte{0, 0, 0, 0, 0, 0, 0, 1})
	holds("the copy is not written yet", source, made, agent.ShareUnlike, 200)
	set(made, "trusted.ec.dirty", make([]byte, 16))
	holds("all is well", source, made, agent.ShareDone, 200)
	if got, err := os.ReadFile(filepath.Join(s.Directory, made)); err != nil || !bytes.Equal(got[:len(content)], content) || len(got) != 1<<20 {
		t.Errorf("the copy has %d bytes, %v", len(got), err)
	}
	set(source, linkAttribute, []byte("p-replicate-1\x00"))
	holds("the source is a pointer", source, made, agent.ShareAbsent, 200)
	set(source, linkAttribute, nil)
	write(made, nil, 2<<20)
	holds("the copy is larger", source, made, "", 500)
	write(made, nil, 1<<20)
	set(made, "trusted.atoll.volume", []byte("{}"))
	holds("what would be a copy is a volume", source, made, "", 500)
	for _, to := range []string{"blocks/volumes/ab/cd/pvc-2", "../x", "blocks/copies/../volumes/x", "blocks/copies/", ""} {
		holds("to "+to, source, to, "", 400)
	}
	for _, from := range []string{"subvol/ab/cd/v", ".glusterfs/x", "/etc/passwd", "blocks/copies/x"} {
		holds("from "+from, from, made, "", 400)
	}
	if err := os.Remove(filepath.Join(s.Directory, source)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(s.Directory, source)); err != nil {
		t.Fatal(err)
	}
	holds("the source is a link out of the brick", source, made, "", 500)
}
