package prepare

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
)

// formerBrick makes the directory of a brick that another operator wrote: it has the volume ID, and
// no mark of a position.
func formerBrick(t *testing.T, b Brick) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(b.Directory, ondisk.GlusterDir, "indices/xattrop"), 0o700))
	must(t, unix.Setxattr(b.Directory, xattrVolumeID, b.VolumeID[:], 0))
}

// lacks sets the counters of an entry for another brick.
func lacks(t *testing.T, path, position string, data byte) {
	t.Helper()
	value := make([]byte, 12)
	value[3] = data
	must(t, unix.Setxattr(path, ondisk.PendingAttribute+"p-client-"+position, value, 0))
}

// files makes files of this size in the brick.
func files(t *testing.T, b Brick, n, size int) {
	t.Helper()
	for i := range n {
		dir := filepath.Join(b.Directory, fmt.Sprintf("subvol/%d", i))
		must(t, os.MkdirAll(dir, 0o755))
		must(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, size), 0o600))
		must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	}
}

// TestFormerPositions: a brick of another operator is refused where its files say that it had
// another position, or cannot say, unless the document confirms the order.
func TestFormerPositions(t *testing.T) {
	first := []string{"0", "1", "2"}
	for name, test := range map[string]struct {
		set    Set
		before func(t *testing.T, b Brick)
		reason string // of the refusal, "" if it is accepted
	}{
		"healed": {Set{Positions: first}, func(t *testing.T, b Brick) {
			files(t, b, 3, 100)
			lacks(t, b.Directory, "1", 0)
			lacks(t, b.Directory, "0", 0)
		}, ""},
		"it knows what another lacks": {Set{Positions: first}, func(t *testing.T, b Brick) {
			files(t, b, 3, 100)
			lacks(t, filepath.Join(b.Directory, "subvol/1/file"), "2", 1)
		}, ""},
		"it would lack something itself": {Set{Positions: first}, func(t *testing.T, b Brick) {
			files(t, b, 3, 100)
			lacks(t, filepath.Join(b.Directory, "subvol/1/file"), "0", 1)
		}, "says that brick 0 lacks something"},
		"only in the index": {Set{Positions: first}, func(t *testing.T, b Brick) {
			const id = "aabbccdd-0000-4000-8000-000000000001"
			file := filepath.Join(b.Directory, ondisk.GlusterDir, "aa/bb", id)
			must(t, os.MkdirAll(filepath.Dir(file), 0o700))
			must(t, os.WriteFile(file, nil, 0o600))
			lacks(t, file, "0", 1)
			must(t, os.WriteFile(filepath.Join(b.Directory, ondisk.GlusterDir, "indices/xattrop", id), nil, 0o600))
		}, "says that brick 0 lacks something"},
		"of another set": {Set{Positions: first}, func(t *testing.T, b Brick) {
			lacks(t, b.Directory, "4", 0)
		}, "brick 4, which is in another set"},
		"data on the arbiter": {Set{Positions: []string{"1", "2", "0"}, Arbiter: true}, func(t *testing.T, b Brick) {
			files(t, b, 1, 1)
		}, "brick 0 is the arbiter"},
		"the arbiter": {Set{Positions: []string{"1", "2", "0"}, Arbiter: true}, func(t *testing.T, b Brick) {
			files(t, b, leastEmpty, 0)
		}, ""},
		"the arbiter elsewhere": {Set{Positions: first}, func(t *testing.T, b Brick) {
			files(t, b, leastEmpty, 0)
		}, "all are empty, as on an arbiter"},
		"a part of each file": {Set{Positions: first, Disperse: true}, func(t *testing.T, b Brick) {
			files(t, b, 1, 1)
		}, "which part of each file"},
		"an empty Disperse set": {Set{Positions: first, Disperse: true}, func(*testing.T, Brick) {}, ""},
		"one brick": {Set{Positions: []string{"0"}}, func(t *testing.T, b Brick) {
			lacks(t, b.Directory, "4", 1)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newDirBrick(t)
			b.Set = test.set
			formerBrick(t, b)
			test.before(t, b)
			err := run(b)
			if test.reason == "" && err != nil {
				t.Fatalf("refused: %v", err)
			}
			if test.reason == "" {
				b.Set.Disperse = !b.Set.Disperse // it has a mark now, which is enough
				must(t, run(b))
				return
			}
			if !errors.Is(err, ErrPosition) || !strings.Contains(err.Error(), test.reason) {
				t.Fatalf("error %v, want one that says: %s", err, test.reason)
			}
			if at, _ := unix.Getxattr(filepath.Join(b.Directory, markDir), xattrPosition, nil); at > 0 {
				t.Error("a refused brick was marked")
			}
			b.Set.Confirmed = true
			must(t, run(b))
		})
	}
}
