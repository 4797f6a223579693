package backend

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/atoll-storage/atoll/schema"
)

// TestAdopt adopts a volume as the Kadalu operator left it, and a whole pool.
func TestAdopt(t *testing.T) {
	root, dir := pool(t)
	s := Subdirectory{Root: root}
	place := filepath.Join(dir, s.Place("pvc-1"))
	must(t, os.MkdirAll(place, 0o755))
	must(t, os.WriteFile(filepath.Join(place, "file"), []byte("text"), 0o600))
	if _, err := s.Adopt(Adoption{Name: "pvc-1", Reclaim: schema.ReclaimArchive}); !errors.Is(err, ErrSize) {
		t.Errorf("without a size: %v", err)
	}
	info := filepath.Join(dir, "info", s.Place("pvc-1")+".json")
	must(t, os.MkdirAll(filepath.Dir(info), 0o755))
	must(t, os.WriteFile(info, []byte(`{"size": 4711, "path_prefix": "subvol/aa/bb"}`), 0o600))
	v, err := s.Adopt(Adoption{Name: "pvc-1", Reclaim: schema.ReclaimArchive})
	if err != nil || v.Size != 4711 || v.Name != "pvc-1" || v.Reclaim != schema.ReclaimArchive {
		t.Errorf("%+v, %v", v, err)
	}
	if all, err := s.List(context.Background()); err != nil || len(all) != 1 || all[0] != v {
		t.Errorf("listed %v, %v", all, err)
	}
	if text, err := os.ReadFile(filepath.Join(place, "file")); err != nil || string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
	for name, want := range map[string]error{"pvc-1": ErrExists, "pvc-2": ErrNotFound, "../x": ErrNotFound} {
		if _, err := s.Adopt(Adoption{Name: name, Size: 1}); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole := Single{Root: s.Root}
	if v, err := whole.Adopt(Adoption{Name: "data", Size: 1 << 30}); err != nil || v.Size != 1<<30 {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := whole.Get(context.Background(), "data"); err != nil || v.Name != "data" {
		t.Errorf("%+v, %v", v, err)
	}
}
