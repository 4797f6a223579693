package backend

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/ondisk"
)

// TestShared attaches a shared volume to three nodes, one of which dies without detaching it.
func TestShared(t *testing.T) {
	root, dir := pool(t)
	b := Block{Root: root}
	c := request("a", 1<<20)
	c.Shared = true
	_, err := b.Create(ctx, c)
	must(t, err)
	checkHolders := func(want ...string) {
		t.Helper()
		all, err := b.Holders("a")
		if got := all.Nodes(); err != nil || !slices.Equal(got, want) {
			t.Errorf("attached to %v, %v; want %v", got, err, want)
		}
	}
	nodes := map[string]*LockedVolume{}
	for _, name := range []string{"one", "two", "three"} {
		locked, err := b.Lock("a")
		must(t, err)
		must(t, locked.Attach(name, "boot", nil))
		must(t, locked.Reacquire()) // as after a brick's restart
		flags, err := unix.FcntlInt(locked.File.Fd(), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_DSYNC == 0 {
			t.Errorf("it is not written through: %o, %v", flags, err)
		}
		nodes[name] = locked
	}
	checkHolders("one", "three", "two")
	if err := b.Delete(ctx, "a"); !errors.Is(err, ErrInUse) {
		t.Errorf("deleted while attached to three nodes: %v", err)
	}
	must(t, b.CheckFree("a", "four"))
	must(t, nodes["three"].Close()) // it died without removing its record
	must(t, errors.Join(nodes["one"].Detach(), nodes["one"].Close()))
	checkHolders("three", "two")
	if err := b.Delete(ctx, "a"); !errors.Is(err, ErrInUse) {
		t.Errorf("deleted while attached to a node: %v", err)
	}
	must(t, errors.Join(nodes["two"].Detach(), nodes["two"].Close()))
	checkHolders() // the last node has removed all records
	n, err := unix.Getxattr(filepath.Join(dir, b.Place("a")), ondisk.AttachmentAttribute, nil)
	if !errors.Is(err, unix.ENODATA) {
		t.Errorf("a shared volume has an attachment of %d bytes, %v", n, err)
	}
	must(t, b.Delete(ctx, "a"))
}

// TestNotShared checks that a volume that is not shared has an exclusive lock and one attachment.
func TestNotShared(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	_, err := b.Create(ctx, request("a", 1<<20))
	must(t, err)
	locked, err := b.Lock("a")
	must(t, err)
	must(t, locked.Attach("one", "boot", nil))
	if _, err := b.Lock("a"); !errors.Is(err, ErrInUse) {
		t.Errorf("locked twice: %v", err)
	}
	must(t, locked.RemoveHolder()) // has no effect
	all, err := b.Holders("a")
	a, attachedErr := b.Attachment("a")
	if err = errors.Join(err, attachedErr); err != nil || len(all) > 0 || a.Node != "one" {
		t.Errorf("holders %v, attachment %+v, %v", all, a, err)
	}
	must(t, errors.Join(locked.Detach(), locked.Close()))
}

// TestDeletedBeforeLock opens volumes, deletes them, and creates others with their names before
// it locks the files: a deleted volume is not locked, and the later volume stays.
func TestDeletedBeforeLock(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	for name, shared := range map[string]bool{"one": false, "several": true} {
		c := request(name, 1<<20)
		c.Shared = shared
		_, err := b.Create(ctx, c)
		must(t, err)
		open := func() *os.File {
			f, err := root.OpenRDWR(b.Place(name))
			must(t, err)
			t.Cleanup(func() { f.Close() })
			return f
		}
		locking, source, deleting := open(), open(), open()
		must(t, b.Delete(ctx, name))
		if _, err := b.lock(locking, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: locked after it was deleted: %v", name, err)
		}
		if _, err := b.volumeSource(source, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: copied after it was deleted: %v", name, err)
		}
		must(t, errors.Join(locking.Close(), source.Close()))
		must(t, b.delete(deleting, name)) // it no longer exists
		_, err = b.Create(ctx, c)
		must(t, err)
		must(t, b.delete(deleting, name))
		if _, err := b.Get(ctx, name); err != nil {
			t.Errorf("%s: the later volume was deleted: %v", name, err)
		}
	}
}
