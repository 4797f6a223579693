package controller

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// TestDeleteHostileIDs: an ID that is not of this driver counts as deleted, and nothing is
// touched (CVE-2026-3864, CVE-2026-3865).
func TestDeleteHostileIDs(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	precious := filepath.Join(b.Mounts.Dir, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{
		"../precious", "v1.dir.p.../../precious", "v1.dir.p./", "v1.dir.p.", "v1.dir.../..",
		"p#../precious#",
	} {
		b.mustDelete(id)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error("a file was deleted")
	}
}

// TestDeleteFollowsNoLinks: a link that a tenant creates in a volume is removed, not followed.
func TestDeleteFollowsNoLinks(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	id := b.mustCreate(newRequest("v", 1<<20, map[string]string{"pool": "p"}))
	precious := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(b.Mounts.Dir, "p", backend.Subdirectory{}.Place("v"), "link")
	if err := os.Symlink(filepath.Dir(precious), link); err != nil {
		t.Fatal(err)
	}
	b.mustDelete(id)
	b.server.sweeper.Sweep(t.Context(), "p", schema.Subdirectory)
	if _, err := os.Stat(precious); err != nil {
		t.Error("deleting followed a tenant's link")
	}
}
