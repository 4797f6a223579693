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

// TestProvisionedBytes has volumes on two replica sets: the status sums their sizes. It counts
// a subdirectory, which is on both sets, once, and a block volume once even if the other set
// has a link file for it.
func TestProvisionedBytes(t *testing.T) {
	s := newBrickEnv(newTestEnv(t), 6)
	root, err := safepath.Open(s.bricks.Mount("volumes", volfile.BlockClient))
	s.must(err)
	defer root.Close()
	subdirectories, blocks := backend.Subdirectory{Root: root}, backend.Block{Root: root}
	claim := func(name string, size int64) backend.CreateRequest {
		return backend.CreateRequest{Request: name, Name: name, Size: size, Reclaim: schema.ReclaimDelete}
	}
	for i := range 3 {
		_, err := subdirectories.Create(t.Context(), claim(fmt.Sprintf("directory-%d", i), 1<<20))
		s.must(err)
	}
	const volumes = 8
	for i := range volumes {
		_, err := blocks.Create(t.Context(), claim(fmt.Sprintf("block-%d", i), 1<<30))
		s.must(err)
		// A renamed file stays on its set; the set of its new name gets a link file.
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
	if data := []int{on(0, 0o600), on(1, 0o600)}; data[0]+data[1] != volumes || data[0] == 0 || data[1] == 0 ||
		on(0, os.ModeSticky)+on(1, os.ModeSticky) == 0 {
		t.Fatalf("%v files on the sets, %d link files: this does not test both cases", data,
			on(0, os.ModeSticky)+on(1, os.ModeSticky))
	}
	s.startReconciler()
	s.must(s.put(poolText("fast", 6, "")))
	s.createPods("r1")
	s.waitCondition("fast", "Ready", "Applied")
	const want = 3<<20 + volumes<<30
	s.eventually("the status has the provisioned bytes", func() bool {
		p := s.get(storagePools, "fast").Status.PromisedBytes
		return p != nil && *p == want
	})
	if out := s.runAtoll("status", "fast"); !strings.Contains(out, "free, 8 GiB provisioned") {
		t.Error(out)
	}
	var listed []struct{ Status struct{ PromisedBytes int64 } }
	s.must(json.Unmarshal([]byte(s.runAtoll("status", "fast", "-o", "json")), &listed))
	if len(listed) != 1 || listed[0].Status.PromisedBytes != want {
		t.Errorf("%+v", listed)
	}
	if out := s.runAtoll("status", "fast", "-o", "yaml"); !strings.Contains(out,
		fmt.Sprintf("promisedBytes: %d", want)) {
		t.Error(out)
	}
}
