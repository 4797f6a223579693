package safepath

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func root(t *testing.T) (*Dir, string) {
	t.Helper()
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, dir
}

// TestLinksAreNotFollowed plants links as a tenant could and checks that no method follows them.
func TestLinksAreNotFollowed(t *testing.T) {
	d, dir := root(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "precious"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "a"), 0o700))
	must(t, os.Symlink(outside, filepath.Join(dir, "a/out")))
	must(t, os.Symlink("../a", filepath.Join(dir, "a/in")))
	for _, name := range []string{"a/out", "a/in", "a/out/x", "..", "../x", "a/../../x", "/etc", ""} {
		if inner, err := d.Dir(name); err == nil {
			t.Errorf("opened %q", name)
			inner.Close()
		}
	}
	for what, err := range map[string]error{
		"mkdir":  d.Mkdir("a/out/x", 0o700),
		"rename": d.Rename("a", "../b"),
		"unlink": d.Unlink("a/out/precious"),
		"rmdir":  d.Rmdir(".."),
		"dot":    d.Rmdir("."),
	} {
		if err == nil {
			t.Errorf("%s followed a link", what)
		}
	}
	must(t, d.RemoveAll(context.Background(), "a", func() {}))
	if _, err := os.Stat(filepath.Join(outside, "precious")); err != nil {
		t.Error("removing followed a link")
	}
}

func TestDirectories(t *testing.T) {
	d, dir := root(t)
	must(t, d.MkdirAll("x/y/z", 0o777))
	must(t, d.MkdirAll("x/y/z", 0o777))
	y, err := d.Dir("x/y")
	must(t, err)
	defer y.Close()
	must(t, y.Chmod(0o777))
	if info, err := os.Stat(filepath.Join(dir, "x/y")); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := d.Mkdir("x/y", 0o700); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	if err := d.Rmdir("x"); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("error %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "x/y/f"), nil, 0o600))
	must(t, d.Rename("x/y", "moved"))
	removed := 0
	must(t, d.RemoveAll(context.Background(), "moved", func() { removed++ }))
	must(t, d.RemoveAll(context.Background(), "moved", func() {}))
	if names, err := d.Names(); err != nil || len(names) != 1 || removed != 3 {
		t.Errorf("left %v, %d removed, %v", names, removed, err)
	}
}

func TestAttributes(t *testing.T) {
	d, _ := root(t)
	if _, err := d.Attribute("user.a"); !errors.Is(err, ErrNoAttribute) {
		t.Skipf("the file system has no user xattrs: %v", err)
	}
	if err := d.ReplaceAttribute("user.a", []byte("0")); !errors.Is(err, ErrNoAttribute) {
		t.Errorf("error %v", err)
	}
	must(t, d.NewAttribute("user.a", []byte("1")))
	if err := d.NewAttribute("user.a", []byte("2")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("error %v", err)
	}
	must(t, d.ReplaceAttribute("user.a", []byte("3")))
	if value, err := d.Attribute("user.a"); err != nil || string(value) != "3" {
		t.Errorf("value %s, %v", value, err)
	}
	must(t, d.RemoveAttribute("user.a"))
	must(t, d.RemoveAttribute("user.a"))
}

// TestAttributesOfClosedEntry returns an error and not an empty list.
func TestAttributesOfClosedEntry(t *testing.T) {
	d, _ := root(t)
	must(t, d.Mkdir("a", 0o700))
	e, err := d.OpenPath("a")
	must(t, err)
	must(t, e.Close())
	if names, err := e.Attributes("trusted."); err == nil {
		t.Errorf("attributes %v", names)
	}
}

func TestRemoveAllContinues(t *testing.T) {
	d, _ := root(t)
	must(t, d.MkdirAll("a/b/c", 0o700))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.RemoveAll(ctx, "a", func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	must(t, d.RemoveAll(context.Background(), "a", func() {}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
