package backend

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/schema"
)

// TestArchiveRestorePurge archives a volume, restores it, archives it again and purges it.
func TestArchiveRestorePurge(t *testing.T) {
	root, dir := pool(t)
	s := Subdirectory{Root: root}
	request := request("a", 100)
	request.Reclaim = schema.ReclaimArchive
	_, err := s.Create(ctx, request)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, parentDir("a"), "a", "f"), []byte("data"), 0o600))
	must(t, s.Delete(ctx, "a"))
	all, err := ListArchived(ctx, root, schema.Subdirectory)
	if err != nil || len(all) != 1 || all[0].Name != "a" || all[0].Size != 100 {
		t.Fatalf("archive %+v, %v", all, err)
	}
	place := all[0].Place
	v, err := s.Restore(place)
	if err != nil || v.Size != 100 {
		t.Errorf("restored %+v, %v", v, err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, parentDir("a"), "a", "f")); err != nil || string(text) != "data" {
		t.Errorf("data %q, %v", text, err)
	}
	if _, err := s.Restore(place); !errors.Is(err, ErrNotFound) {
		t.Errorf("restored twice: %v", err)
	}
	must(t, s.Delete(ctx, "a"))
	_, err = s.Create(ctx, request) // another volume has the name now
	must(t, err)
	if all, err = ListArchived(ctx, root, schema.Subdirectory); err != nil || len(all) != 1 {
		t.Fatalf("archive %+v, %v", all, err)
	}
	if _, err := s.Restore(all[0].Place); !errors.Is(err, ErrExists) {
		t.Errorf("restored over another volume: %v", err)
	}
	must(t, Purge(root, schema.Subdirectory, all[0].Place))
	must(t, Sweep(ctx, root, schema.Subdirectory, logr.Discard()))
	if all, err = ListArchived(ctx, root, schema.Subdirectory); err != nil || len(all) != 0 {
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

// TestBlockArchiveRestorePurge does the same with a block volume.
func TestBlockArchiveRestorePurge(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	request := blockRequest
	request.Reclaim = schema.ReclaimArchive
	_, err := b.Create(ctx, request)
	must(t, err)
	must(t, b.Delete(ctx, "a"))
	if _, err := b.Get(ctx, "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after deletion: %v", err)
	}
	all, err := ListArchived(ctx, root, schema.Block)
	if err != nil || len(all) != 1 || all[0].Name != "a" || all[0].Size != 100 {
		t.Fatalf("archive %+v, %v", all, err)
	}
	v, err := b.Restore(all[0].Place)
	if err != nil || v.Size != 100 || v.FileSystem != "xfs" {
		t.Errorf("restored %+v, %v", v, err)
	}
	must(t, b.Delete(ctx, "a"))
	all, err = ListArchived(ctx, root, schema.Block)
	must(t, err)
	must(t, Purge(root, schema.Block, all[0].Place))
	must(t, Sweep(ctx, root, schema.Block, logr.Discard()))
	if left, err := listNames(root, blockTrash); err != nil || len(left) != 0 {
		t.Errorf("left in the trash: %v, %v", left, err)
	}
}
