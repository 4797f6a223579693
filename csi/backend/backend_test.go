package backend

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

var ctx = context.Background()

// pool returns an empty directory on a file system with trusted xattrs.
func pool(t *testing.T) (*safepath.Dir, string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("records are trusted xattrs, which need root")
	}
	dir := t.TempDir()
	root, err := safepath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root, dir
}

func request(name string, size int64) CreateRequest {
	return CreateRequest{Request: name, Name: volumeid.Name(name), Size: size, Reclaim: schema.ReclaimDelete}
}

// TestVolumeLife creates, expands, lists and deletes a volume of each layout for directories.
func TestVolumeLife(t *testing.T) {
	for name, make := range map[string]func(*safepath.Dir) Backend{
		"subdirectory": func(d *safepath.Dir) Backend { return Subdirectory{Root: d} },
		"single":       func(d *safepath.Dir) Backend { return Single{Root: d} },
	} {
		t.Run(name, func(t *testing.T) {
			root, _ := pool(t)
			b := make(root)
			c := request("PVC with spaces", 100)
			first, err := b.Create(ctx, c)
			must(t, err)
			again, err := b.Create(ctx, c)
			must(t, err)
			if again != first {
				t.Errorf("repeated: %+v, first %+v", again, first)
			}
			if _, err := b.Create(ctx, request("PVC with spaces", 200)); !errors.Is(err, ErrExists) {
				t.Errorf("requested with another size: %v", err)
			}
			grown, err := b.Expand(ctx, c.Name, 300)
			must(t, err)
			smaller, err := b.Expand(ctx, c.Name, 50)
			must(t, err)
			if grown.Size != 300 || smaller.Size != 300 {
				t.Errorf("expanded to %d, then %d", grown.Size, smaller.Size)
			}
			d, err := b.(Directories).Open(c.Name)
			must(t, err)
			must(t, d.Mkdir("data", 0o700))
			must(t, d.Close())
			all, err := b.List(ctx)
			must(t, err)
			if len(all) != 1 || all[0] != grown {
				t.Errorf("listed %+v", all)
			}
			must(t, b.Delete(ctx, c.Name))
			must(t, b.Delete(ctx, c.Name))
			if _, err := b.Get(ctx, c.Name); !errors.Is(err, ErrNotFound) {
				t.Errorf("after deletion: %v", err)
			}
			if _, err := b.(Directories).Open(c.Name); !errors.Is(err, ErrNotFound) {
				t.Errorf("after deletion: %v", err)
			}
			must(t, Sweep(ctx, root, schema.Subdirectory, logr.Discard()))
			if left, err := listNames(root, trash); err != nil || len(left) > 0 {
				t.Errorf("left in the trash: %v, %v", left, err)
			}
			fresh, err := b.Create(ctx, request("PVC with spaces", 200))
			must(t, err)
			if d, err = b.(Directories).Open(fresh.Name); err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if names, err := d.Names(); err != nil || len(names) > 1 || len(names) == 1 && names[0] != atollDir {
				t.Errorf("a new volume contains %v, %v", names, err)
			}
		})
	}
}

// TestSingleIsOneVolume: the error of a second request names the volume that owns the pool.
func TestSingleIsOneVolume(t *testing.T) {
	root, dir := pool(t)
	must(t, os.WriteFile(filepath.Join(dir, "existing"), []byte("data"), 0o600))
	b := Single{Root: root}
	_, err := b.Create(ctx, request("first", 1))
	must(t, err)
	if _, err := b.Create(ctx, request("second", 1)); !errors.Is(err, ErrExhausted) ||
		!strings.Contains(err.Error(), "first") {
		t.Errorf("error %v", err)
	}
	must(t, b.Delete(ctx, "second"))
	if _, err := os.Stat(filepath.Join(dir, "existing")); err != nil {
		t.Error("deleting another volume changed the pool")
	}
}

func TestArchive(t *testing.T) {
	root, dir := pool(t)
	b := Subdirectory{Root: root, Now: func() time.Time { return time.Unix(0, 0) }}
	_, err := b.Create(ctx, request("a", 1))
	must(t, err)
	_, err = b.SetReclaim(ctx, "a", schema.ReclaimArchive)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, parentDir("a"), "a", "f"), []byte("data"), 0o600))
	must(t, b.Delete(ctx, "a"))
	must(t, Sweep(ctx, root, schema.Subdirectory, logr.Discard()))
	text, err := os.ReadFile(filepath.Join(dir, archive, "a.19700101T000000.000000000Z", "f"))
	if err != nil || string(text) != "data" {
		t.Errorf("archived: %s, %v", text, err)
	}
}

// TestForeign: a directory that Atoll did not create is neither used for a volume nor deleted.
func TestForeign(t *testing.T) {
	root, dir := pool(t)
	b := Subdirectory{Root: root}
	place := filepath.Join(dir, parentDir("a"), "a")
	must(t, os.MkdirAll(place, 0o755))
	must(t, os.WriteFile(filepath.Join(place, "precious"), nil, 0o600))
	if _, err := b.Create(ctx, request("a", 1)); !errors.Is(err, ErrForeign) {
		t.Errorf("create: %v", err)
	}
	if err := b.Delete(ctx, "a"); !errors.Is(err, ErrForeign) {
		t.Errorf("delete: %v", err)
	}
	if _, err := b.Open("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("open: %v", err)
	}
	if all, err := b.List(ctx); err != nil || len(all) > 0 {
		t.Errorf("listed %v, %v", all, err)
	}
	if _, err := os.Stat(filepath.Join(place, "precious")); err != nil {
		t.Error("the file was deleted")
	}
	// A symbolic link at the path of a volume is not followed.
	must(t, os.RemoveAll(place))
	must(t, os.Symlink("/etc", place))
	if _, err := b.Open("a"); err == nil {
		t.Error("a link was opened")
	}
	if err := b.Delete(ctx, "a"); err == nil {
		t.Error("a link was deleted as a volume")
	}
}

// TestNewerRecord: a volume with a record of a newer version is left alone.
func TestNewerRecord(t *testing.T) {
	root, _ := pool(t)
	b := Subdirectory{Root: root}
	_, err := b.Create(ctx, request("a", 1))
	must(t, err)
	d, err := b.Open("a")
	must(t, err)
	defer d.Close()
	for _, text := range []string{`{"v":2}`, `{"v":1,"extra":1}`, `{"v":1,"size":-1}`, `{`, `{"v":1}{}`} {
		must(t, d.ReplaceAttribute(ondisk.Attribute, []byte(text)))
		if _, err := b.Get(ctx, "a"); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: get: %v", text, err)
		}
		if err := b.Delete(ctx, "a"); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: delete: %v", text, err)
		}
		if _, err := b.Create(ctx, request("a", 1)); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: create: %v", text, err)
		}
	}
}

func TestLedger(t *testing.T) {
	l := NewLedger([]Volume{{Name: "a", Size: 40}})
	s := Space{Total: 100, Used: 10}
	undo, err := l.Reserve("b", 50, s, 1)
	must(t, err)
	if _, err := l.Reserve("c", 11, s, 1); !errors.Is(err, ErrExhausted) {
		t.Errorf("error %v", err)
	}
	if _, err := l.Reserve("c", 11, s, 2); err != nil {
		t.Errorf("overcommitted: %v", err)
	}
	l.Forget("c")
	undo()
	if free := l.Free(s, 1); free != 60 {
		t.Errorf("free %d", free)
	}
	if free := l.Free(Space{Total: 100, Used: 90}, 1); free != 10 {
		t.Errorf("free beside other data: %d", free)
	}
	if undo, err = l.Reserve("a", 60, s, 1); err != nil {
		t.Fatal(err)
	}
	undo()
	if bytes, n := l.Provisioned(); bytes != 40 || n != 1 {
		t.Errorf("provisioned %d bytes in %d volumes", bytes, n)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
