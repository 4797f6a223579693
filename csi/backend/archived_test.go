package backend

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/schema"
)

// TestArchiveRestorePurge takes a volume into the archive and back, and out of it.
func TestArchiveRestorePurge(t *testing.T) {
	root, dir := pool(t)
	s := Subdirectory{Root: root}
	kept := claim("a", 100)
	kept.Reclaim = schema.ReclaimArchive
	_, err := s.Create(ctx, kept)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, hashed("a"), "a", "f"), []byte("data"), 0o600))
	must(t, s.Delete(ctx, "a"))
	all, err := Archive(ctx, root, schema.Subdirectory)
	if err != nil || len(all) != 1 || all[0].Name != "a" || all[0].Size != 100 {
		t.Fatalf("archive %+v, %v", all, err)
	}
	place := all[0].Place
	v, err := s.Restore(place)
	if err != nil || v.Size != 100 {
		t.Errorf("restored %+v, %v", v, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, hashed("a"), "a", "f")); err != nil || string(text) != "data" {
		t.Errorf("data %q, %v", text, err)
	}
	if _, err := s.Restore(place); !errors.Is(err, ErrNotFound) {
		t.Errorf("restored twice: %v", err)
	}
	must(t, s.Delete(ctx, "a"))
	_, err = s.Create(ctx, kept) // somebody else has the name now
	must(t, err)
	if all, err = Archive(ctx, root, schema.Subdirectory); err != nil || len(all) != 1 {
		t.Fatalf("archive %+v, %v", all, err)
	}
	if _, err := s.Restore(all[0].Place); !errors.Is(err, ErrExists) {
		t.Errorf("restored over another: %v", err)
	}
	must(t, Purge(root, schema.Subdirectory, all[0].Place))
	must(t, Sweep(ctx, root, schema.Subdirectory, logr.Discard()))
	if all, err = Archive(ctx, root, schema.Subdirectory); err != nil || len(all) != 0 {
		t.Errorf("archive %+v, %v", all, err)
	}
	for _, hostile := range []string{"../subvol", "a", "", "a.b/../../subvol", ".x", "none.20200101T000000Z"} {
		if err := Purge(root, schema.Subdirectory, hostile); !errors.Is(err, ErrNotFound) {
			t.Errorf("purged %q: %v", hostile, err)
		}
		if _, err := s.Restore(hostile); !errors.Is(err, ErrNotFound) {
			t.Errorf("restored %q: %v", hostile, err)
		}
	}
	if _, err := s.Get(ctx, "a"); err != nil {
		t.Error(err)
	}
}

// TestBlockArchived does the same with a volume of blocks.
func TestBlockArchived(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	kept := blockClaim
	kept.Reclaim = schema.ReclaimArchive
	_, err := b.Create(ctx, kept)
	must(t, err)
	must(t, b.Delete(ctx, "a"))
	if _, err := b.Get(ctx, "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after deletion: %v", err)
	}
	all, err := Archive(ctx, root, schema.Block)
	if err != nil || len(all) != 1 || all[0].Name != "a" || all[0].Size != 100 {
		t.Fatalf("archive %+v, %v", all, err)
	}
	v, err := b.Restore(all[0].Place)
	if err != nil || v.Size != 100 || v.FileSystem != "xfs" {
		t.Errorf("restored %+v, %v", v, err)
	}
	must(t, b.Delete(ctx, "a"))
	all, err = Archive(ctx, root, schema.Block)
	must(t, err)
	must(t, Purge(root, schema.Block, all[0].Place))
	must(t, Sweep(ctx, root, schema.Block, logr.Discard()))
	if left, err := listed(root, blockTrash); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
