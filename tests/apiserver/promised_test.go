package apiserver

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
)

// TestPromised has volumes on two sets: what they may have together is told, folders, which
// are on both, once, and each block volume, though the other set has a pointer to some.
func TestPromised(t *testing.T) {
	s := serve(operate(t), 6)
	root, err := safepath.Open(s.bricks.Mount("volumes", volfile.BlockClient))
	s.must(err)
	defer root.Close()
	folders, blocks := backend.Subdirectory{Root: root}, backend.Block{Root: root}
	claim := func(name string, size int64) backend.CreateRequest {
		return backend.CreateRequest{Request: name, Name: name, Size: size, Reclaim: schema.ReclaimDelete}
	}
	for i := range 3 {
		_, err := folders.Create(t.Context(), claim(fmt.Sprintf("folder-%d", i), 1<<20))
		s.must(err)
	}
	const volumes = 8
	for i := range volumes {
		_, err := blocks.Create(t.Context(), claim(fmt.Sprintf("block-%d", i), 1<<30))
		s.must(err)
		// A file that gets another name stays where it is; where it would be now has a pointer.
		place := blocks.Place(fmt.Sprintf("block-%d", i))
		s.must(root.Rename(place, place+"-renamed"))
	}
	on := func(set int, mode os.FileMode) (n int) {
		files, err := filepath.Glob(filepath.Join(s.bricks.Pool.Bricks[3*set].Directory, "blocks/volumes/*/*/*"))
		s.must(err)
		for _, f := range files {
			if info, err := os.Lstat(f); err == nil && info.Mode() == mode {
				n++
			}
		}
		return n
	}
	if whole := []int{on(0, 0o600), on(1, 0o600)}; whole[0]+whole[1] != volumes || whole[0] == 0 || whole[1] == 0 || on(0, os.ModeSticky)+on(1, os.ModeSticky) == 0 {
		t.Fatalf("%v files on the sets, %d pointers: they show nothing", whole, on(0, os.ModeSticky)+on(1, os.ModeSticky))
	}
	s.reconciler()
	s.must(s.put(poolText("fast", 6, "")))
	s.pods("r1")
	s.conditioned("fast", "Ready", "Applied")
	const want = 3<<20 + volumes<<30
	s.eventually("what is promised is told", func() bool {
		p := s.get(storagePools, "fast").Status.PromisedBytes
		return p != nil && *p == want
	})
	if out := s.told("status", "fast"); !strings.Contains(out, "free, 8 GiB provisioned") {
		t.Error(out)
	}
	var listed []struct{ Status struct{ PromisedBytes int64 } }
	s.must(json.Unmarshal([]byte(s.told("status", "fast", "-o", "json")), &listed))
	if len(listed) != 1 || listed[0].Status.PromisedBytes != want {
		t.Errorf("%+v", listed)
	}
	if out := s.told("status", "fast", "-o", "yaml"); !strings.Contains(out, fmt.Sprintf("promisedBytes: %d", want)) {
		t.Error(out)
	}
}
