package agent

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/ondisk"
)

// fixture is a file or directory of a brick with attributes.
type fixture struct {
	path string
	mode os.FileMode // of a file; 0 for a directory
	size int64       // in the record; 0 for no record
	link string
}

func (e fixture) make(t *testing.T, brick string) {
	t.Helper()
	path := filepath.Join(brick, e.path)
	dir := path
	if e.mode != 0 {
		dir = filepath.Dir(path)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if e.mode != 0 {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, e.mode); err != nil {
			t.Fatal(err)
		}
	}
	set := func(name string, value []byte) {
		t.Helper()
		if err := unix.Setxattr(path, name, value, 0); err != nil {
			t.Fatal(err)
		}
	}
	if e.size > 0 {
		name := ondisk.Attribute
		text, err := ondisk.Record{Version: ondisk.Version, Size: e.size}.Encode()
		if strings.HasPrefix(e.path, ondisk.Snapshots) {
			name = ondisk.SnapshotAttribute
			text, err = ondisk.Snapshot{Size: 1 << 40, Used: e.size}.Encode()
		}
		if err != nil {
			t.Fatal(err)
		}
		set(name, text)
	}
	if e.link != "" {
		set(ondisk.LinkAttribute, []byte(e.link))
	}
}

// TestCountsProvisionedSizes: volumes of all layouts and snapshots count, each once, and
// nothing else does.
func TestCountsProvisionedSizes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	_, s := newServer(t)
	for _, e := range []fixture{
		{path: "subvol/aa/bb/one", size: 1},
		{path: "subvol/aa/bb/two", size: 2},
		{path: "subvol/cc/dd/made-by-hand"},
		{path: "subvol/cc/dd/one/below", size: 1 << 40},
		{path: ".atoll/trash/one", size: 1 << 40},
		{path: "blocks/volumes/aa/bb/block", mode: 0o600, size: 10},
		{path: "blocks/volumes/aa/bb/begun", mode: 0o600},
		{path: "blocks/volumes/aa/cc/elsewhere", mode: os.ModeSticky, size: 1 << 40, link: "p-replicate-1"},
		// Source and target of a file that is being moved to another set.
		{
			path: "blocks/volumes/aa/cc/leaving", mode: os.ModeSticky | os.ModeSetgid | 0o600, size: 20,
			link: "p-replicate-1",
		},
		{path: "blocks/volumes/aa/cc/coming", mode: os.ModeSticky, size: 1 << 40, link: "p-replicate-0"},
		{path: "blocks/snapshots/aa/bb/snap", mode: 0o600, size: 100},
		{path: "blocks/snapshots/aa/bb/elsewhere", mode: os.ModeSticky, size: 1 << 40, link: "p-replicate-1"},
		{path: "blocks/copies/snapshot-s.0", mode: 0o600},
		{path: "blocks/archive/old", mode: 0o600, size: 1 << 40},
	} {
		e.make(t, s.Directory)
	}
	p, err := s.countPromised(t.Context())
	if err != nil || *p != (agent.Promised{Folders: 3, Blocks: 130}) {
		t.Errorf("%+v, %v", p, err)
	}
	fixture{path: ".", size: 100}.make(t, s.Directory) // a pool that is one volume
	if p, err := s.countPromised(t.Context()); err != nil || p.Folders != 103 {
		t.Errorf("%+v, %v", p, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := s.countPromised(ended); err == nil {
		t.Errorf("an incomplete count was returned without an error: %+v", p)
	}
}

// TestStatusHasLastCount: a status request does not count. It has no result before the first
// count, and none once the brick cannot be read.
func TestStatusHasLastCount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	h, s := newServer(t)
	fixture{path: "subvol/aa/bb/one", size: 7}.make(t, s.Directory)
	reported := func() *agent.Promised {
		t.Helper()
		answer, err := h.Client().Get(h.URL + agent.PathStatus)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var st agent.Status
		if err := json.NewDecoder(answer.Body).Decode(&st); err != nil {
			t.Fatal(err)
		}
		return st.Promised
	}
	if p := reported(); p != nil {
		t.Errorf("before the first count: %+v", p)
	}
	countUntil := func(what string, is func(p *agent.Promised) bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Count(ctx) }()
		for end := time.Now().Add(10 * time.Second); !is(reported()); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("not in time: %s", what)
				break
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	countUntil("the volume is counted", func(p *agent.Promised) bool { return p != nil && p.Folders == 7 })
	if err := os.Rename(s.Directory, s.Directory+"-away"); err != nil {
		t.Fatal(err)
	}
	countUntil("the result is withdrawn", func(p *agent.Promised) bool { return p == nil })
}
