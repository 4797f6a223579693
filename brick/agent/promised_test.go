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

// made is a file or folder of a brick with attributes; the record is of this size.
type made struct {
	path string
	mode os.FileMode // of a file; 0 is a folder
	size int64       // 0 is no record
	link string
}

func (e made) make(t *testing.T, brick string) {
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
		set(linkAttribute, []byte(e.link))
	}
}

// TestCount adds up what is promised on a brick: volumes of all layouts, each once, and
// nothing that is none.
func TestCount(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	_, s := server(t)
	for _, e := range []made{
		{path: "subvol/aa/bb/one", size: 1},
		{path: "subvol/aa/bb/two", size: 2},
		{path: "subvol/cc/dd/made-by-hand"},
		{path: "subvol/cc/dd/one/below", size: 1 << 40},
		{path: ".atoll/trash/one", size: 1 << 40},
		{path: "blocks/volumes/aa/bb/block", mode: 0o600, size: 10},
		{path: "blocks/volumes/aa/bb/begun", mode: 0o600},
		{path: "blocks/volumes/aa/cc/elsewhere", mode: os.ModeSticky, size: 1 << 40, link: "p-replicate-1"},
		// The two ends of a file that is moved to another set.
		{path: "blocks/volumes/aa/cc/leaving", mode: os.ModeSticky | os.ModeSetgid | 0o600, size: 20, link: "p-replicate-1"},
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
	made{path: ".", size: 100}.make(t, s.Directory) // a pool that is one volume
	if p, err := s.countPromised(t.Context()); err != nil || p.Folders != 103 {
		t.Errorf("%+v, %v", p, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if p, err := s.countPromised(ended); err == nil {
		t.Errorf("half a count is taken for one: %+v", p)
	}
}

// TestTellsWhatIsPromised: asking does not count, so that nothing is told before the first
// count, and is told of a brick that cannot be read any more.
func TestTellsWhatIsPromised(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sets trusted attributes: needs root")
	}
	h, s := server(t)
	made{path: "subvol/aa/bb/one", size: 7}.make(t, s.Directory)
	told := func() *agent.Promised {
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
	if p := told(); p != nil {
		t.Errorf("before the first count: %+v", p)
	}
	counted := func(what string, is func(p *agent.Promised) bool) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Count(ctx) }()
		for end := time.Now().Add(10 * time.Second); !is(told()); time.Sleep(10 * time.Millisecond) {
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
	counted("the volume is counted", func(p *agent.Promised) bool { return p != nil && p.Folders == 7 })
	if err := os.Rename(s.Directory, s.Directory+"-away"); err != nil {
		t.Fatal(err)
	}
	counted("nothing is known", func(p *agent.Promised) bool { return p == nil })
}
