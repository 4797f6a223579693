package prepare

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// newDirBrick returns a brick below a new directory, which must support trusted attributes.
func newDirBrick(t *testing.T) Brick {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Setxattr(dir, "trusted.atoll.test", []byte("1"), 0); err != nil {
		t.Skipf("trusted attributes cannot be set here (needs root): %v", err)
	}
	return Brick{
		Pool: "p", Position: "0", VolumeID: uuid.MustParse("64220cb5-c301-41b1-b4f1-e5756b3171dc"),
		Directory: filepath.Join(dir, "brick"),
	}
}

func run(b Brick) error { return Run(context.Background(), b, logr.Discard()) }

func TestCreatesAndFindsBrick(t *testing.T) {
	b := newDirBrick(t)
	// The leftovers of an interrupted run do no harm.
	if err := os.MkdirAll(filepath.Join(filepath.Dir(b.Directory), staging, ".glusterfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := run(b); err != nil {
			t.Fatal(err)
		}
	}
	value := make([]byte, 16)
	if n, err := unix.Getxattr(b.Directory, xattrVolumeID, value); err != nil || uuid.UUID(value[:n]) != b.VolumeID {
		t.Errorf("volume ID %x, %v", value, err)
	}
	if info, err := os.Stat(filepath.Join(b.Directory, ".glusterfs")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf(".glusterfs: %v, %v", info, err)
	}
}

func TestRefusesForeignBrick(t *testing.T) {
	for name, test := range map[string]struct {
		before func(t *testing.T, b *Brick)
		want   error
	}{
		"brick of another pool": {func(t *testing.T, b *Brick) {
			must(t, run(*b))
			b.VolumeID = uuid.New()
		}, ErrForeign},
		"brick of another position": {func(t *testing.T, b *Brick) {
			must(t, run(*b))
			b.Position = "1"
		}, ErrForeign},
		"directory with files": {func(t *testing.T, b *Brick) {
			must(t, os.Mkdir(b.Directory, 0o700))
			must(t, os.WriteFile(filepath.Join(b.Directory, "a"), nil, 0o600))
		}, ErrNotEmpty},
		"symbolic link": {func(t *testing.T, b *Brick) {
			must(t, os.Symlink("/etc", b.Directory))
		}, ErrForeign},
		"file": {func(t *testing.T, b *Brick) {
			must(t, os.WriteFile(b.Directory, nil, 0o600))
		}, ErrForeign},
		"no parent directory": {func(_ *testing.T, b *Brick) {
			b.Directory = filepath.Join(b.Directory, "away", "brick")
		}, os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			b := newDirBrick(t)
			test.before(t, &b)
			if err := run(b); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

func TestAdoptsBrick(t *testing.T) {
	b := newDirBrick(t)
	must(t, os.Mkdir(b.Directory, 0o755))
	must(t, run(b)) // an empty directory
	must(t, unix.Removexattr(filepath.Join(b.Directory, markDir), xattrPosition))
	must(t, run(b)) // a brick of Kadalu, which has no position
	b.Position = "1"
	if err := run(b); !errors.Is(err, ErrForeign) {
		t.Errorf("error %v", err)
	}
}

func TestRefusesCharacterDevice(t *testing.T) {
	b := newDirBrick(t)
	b.Device = "/dev/null"
	if err := run(b); err == nil {
		t.Error("a character device was accepted")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestMissingBrickNeedsGeneration: a brick that was created and is missing is not created
// again, unless the document raises its generation.
func TestMissingBrickNeedsGeneration(t *testing.T) {
	b := newDirBrick(t)
	b.State, b.Place = t.TempDir(), "/srv/gluster"
	for range 2 {
		must(t, run(b))
	}
	must(t, os.RemoveAll(b.Directory)) // the disk is not mounted
	for range 2 {
		if err := run(b); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "generation: 2") {
			t.Errorf("missing: %v", err)
		}
		must(t, os.MkdirAll(b.Directory, 0o755)) // an empty directory is not a brick either
	}
	b.Generation = 2
	must(t, run(b))
	must(t, run(b))
	b.Generation = 1
	if err := run(b); !errors.Is(err, ErrForeign) {
		t.Errorf("with the former document: %v", err)
	}
	// Another place is another disk.
	must(t, os.RemoveAll(b.Directory))
	b.Generation, b.Place = 2, "/srv/other"
	must(t, run(b))
	// The former disk comes back.
	b.Generation = 3
	if err := run(b); !errors.Is(err, ErrFormer) || !strings.Contains(err.Error(), "its data is stale") {
		t.Errorf("the former brick: %v", err)
	}
}
