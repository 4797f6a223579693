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

// TestShared has three nodes take a volume that is shared, and one of them go without
// giving it back.
func TestShared(t *testing.T) {
	root, dir := pool(t)
	b := Block{Root: root}
	c := claim("a", 1<<20)
	c.Shared = true
	_, err := b.Create(ctx, c)
	must(t, err)
	has := func(want ...string) {
		t.Helper()
		all, err := b.Holders("a")
		if got := all.Nodes(); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v have it, %v; they should be %v", got, err, want)
		}
	}
	nodes := map[string]*LockedVolume{}
	for _, name := range []string{"one", "two", "three"} {
		taken, err := b.Lock("a")
		must(t, err)
		must(t, taken.Attach(name, "boot", nil))
		must(t, taken.Lock()) // as after a brick's restart
		flags, err := unix.FcntlInt(taken.File.Fd(), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_DSYNC == 0 {
			t.Errorf("it is not written through: %o, %v", flags, err)
		}
		nodes[name] = taken
	}
	has("one", "three", "two")
	if err := b.Delete(ctx, "a"); !errors.Is(err, ErrInUse) {
		t.Errorf("deleting what three nodes have: %v", err)
	}
	must(t, b.Free("a", "four"))
	must(t, nodes["three"].Close()) // it died, and left its note
	must(t, errors.Join(nodes["one"].Detach(), nodes["one"].Close()))
	has("three", "two")
	if err := b.Delete(ctx, "a"); !errors.Is(err, ErrInUse) {
		t.Errorf("deleting what a node has: %v", err)
	}
	must(t, errors.Join(nodes["two"].Detach(), nodes["two"].Close()))
	has() // the last one has tidied up
	if n, err := unix.Getxattr(filepath.Join(dir, b.Place("a")), ondisk.AttachmentAttribute, nil); !errors.Is(err, unix.ENODATA) {
		t.Errorf("a shared volume has an attachment of %d bytes, %v", n, err)
	}
	must(t, b.Delete(ctx, "a"))
}

// TestNotShared holds that a volume of one node is locked for one, and has one attachment.
func TestNotShared(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	_, err := b.Create(ctx, claim("a", 1<<20))
	must(t, err)
	taken, err := b.Lock("a")
	must(t, err)
	must(t, taken.Attach("one", "boot", nil))
	if _, err := b.Lock("a"); !errors.Is(err, ErrInUse) {
		t.Errorf("taken twice: %v", err)
	}
	must(t, taken.Leave()) // is for shared ones
	all, err := b.Holders("a")
	a, attachedErr := b.Attachment("a")
	if err = errors.Join(err, attachedErr); err != nil || len(all) > 0 || a.Node != "one" {
		t.Errorf("holders %v, attachment %+v, %v", all, a, err)
	}
	must(t, errors.Join(taken.Detach(), taken.Close()))
}

// TestDeletedMeanwhile opens volumes, deletes them, and makes others of the same name, before
// it takes their locks: what was deleted is nobody's, and what came after it stays.
func TestDeletedMeanwhile(t *testing.T) {
	root, _ := pool(t)
	b := Block{Root: root}
	for name, shared := range map[string]bool{"one": false, "several": true} {
		c := claim(name, 1<<20)
		c.Shared = shared
		_, err := b.Create(ctx, c)
		must(t, err)
		open := func() *os.File {
			f, err := root.OpenRDWR(b.Place(name))
			must(t, err)
			t.Cleanup(func() { f.Close() })
			return f
		}
		taking, source, deleting := open(), open(), open()
		must(t, b.Delete(ctx, name))
		if _, err := b.take(taking, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: taken when it was deleted: %v", name, err)
		}
		if _, err := b.volumeSource(source, name); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: copied when it was deleted: %v", name, err)
		}
		must(t, errors.Join(taking.Close(), source.Close()))
		must(t, b.delete(deleting, name)) // nothing is there
		_, err = b.Create(ctx, c)
		must(t, err)
		must(t, b.delete(deleting, name))
		if _, err := b.Get(ctx, name); err != nil {
			t.Errorf("%s: the volume of the same name is gone: %v", name, err)
		}
	}
}
