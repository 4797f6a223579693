package backend

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// crashVariable makes a copy of the test do one operation and end.
const crashVariable = "ATOLL_CRASH_TEST"

func TestMain(m *testing.M) {
	if operation := os.Getenv(crashVariable); operation != "" {
		if err := operate(operation, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// operate does one operation on the pool in dir.
func operate(operation, dir string) error {
	root, err := safepath.Open(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	var b Backend = Subdirectory{Root: root}
	switch operation {
	case "create":
		_, err = b.Create(ctx, claim("a", 100))
	case "expand":
		_, err = b.Expand(ctx, "a", 200)
	case "delete", "archive":
		err = b.Delete(ctx, "a")
	case "sweep":
		err = Sweep(ctx, root, schema.Subdirectory, logr.Discard())
	case "single create":
		_, err = Single{Root: root}.Create(ctx, claim("a", 100))
	case "single delete":
		err = Single{Root: root}.Delete(ctx, "a")
	case "block create":
		_, err = Block{Root: root}.Create(ctx, blockClaim)
	case "block expand":
		_, err = Block{Root: root}.Expand(ctx, "a", 200)
	case "block delete":
		err = Block{Root: root}.Delete(ctx, "a")
	case "block sweep":
		err = Sweep(ctx, root, schema.Block, logr.Discard())
	case "shared create":
		c := claim("a", 100)
		c.Shared = true
		_, err = Block{Root: root}.Create(ctx, c)
	case "shared attach":
		err = attach(Block{Root: root})
	case "block attach":
		err = attach(Block{Root: root})
	case "snapshot":
		err = snapshotOf(root)
	case "restore":
		err = restored(root)
	case "delete snapshot":
		err = Block{Root: root}.DeleteSnapshot("s")
	}
	return err
}

var blockClaim = func() CreateRequest {
	c := claim("a", 100)
	c.FileSystem = "xfs"
	return c
}()

// attach takes a volume, has a file system made on it, and gives it back.
func attach(b Block) error {
	t, err := b.Lock("a")
	if err != nil {
		return err
	}
	return errors.Join(t.Attach("node", "boot", nil), t.Formatted("xfs"), t.Detach(), t.Close())
}

// calls are the system calls that change or read a pool.
var calls = []string{"mkdirat", "setxattr", "removexattr", "renameat", "unlinkat", "fchmodat", "chmod", "openat2", "getdents64", "getxattr", "listxattr", "fstat", "ftruncate", "fcntl", "lseek", "pread64", "pwrite64", "fsync"}

// TestKilledAtEverySystemCall kills each operation with SIGKILL at each of its
// system calls in turn, and repeats it: there is never a half-made volume that
// counts as one, nothing is lost, and in the end all is as if nothing had happened.
func TestKilledAtEverySystemCall(t *testing.T) {
	if testing.Short() {
		t.Skip("runs every operation some dozen times: not with -short")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed: run make deps as root")
	}
	for _, test := range []struct {
		operation string
		before    func(t *testing.T, dir string)
		after     func(t *testing.T, dir string)
	}{
		{"create", nothing, has(100)},
		{"expand", made, has(200)},
		{"delete", filled, goneTo(trash, 1)},
		{"archive", archived, goneTo(archive, 1)},
		{"sweep", func(t *testing.T, dir string) { filled(t, dir); must(t, operate("delete", dir)) }, goneTo(trash, 0)},
		{"single create", nothing, func(t *testing.T, dir string) { single(t, dir, 1) }},
		{"single delete", func(t *testing.T, dir string) {
			must(t, operate("single create", dir))
			must(t, os.MkdirAll(filepath.Join(dir, "data/below"), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		}, func(t *testing.T, dir string) { single(t, dir, 0) }},
		{"block create", nothing, blockHas(100)},
		{"block expand", blockMade, blockHas(200)},
		{"block attach", blockMade, blockFormatted},
		{"shared attach", func(t *testing.T, dir string) { must(t, operate("shared create", dir)) }, sharedLeft},
		{"block delete", blockMade, blockGone(1)},
		{"block sweep", func(t *testing.T, dir string) { blockMade(t, dir); must(t, operate("block delete", dir)) }, blockGone(0)},
		{"snapshot", blockWritten, snapshots("a")},
		{"restore", snapshotMade, snapshots("a", "b")},
		{"delete snapshot", snapshotMade, func(t *testing.T, dir string) {
			if _, err := (Block{Root: open(t, dir)}).Snapshot("s"); !errors.Is(err, ErrNoSnapshot) {
				t.Errorf("after it was deleted: %v", err)
			}
		}},
	} {
		t.Run(test.operation, func(t *testing.T) {
			kills := 0
			for _, call := range calls {
				for n := 1; ; n++ {
					_, dir := pool(t)
					test.before(t, dir)
					killed := runKilled(t, test.operation, dir, call, n)
					consistent(t, dir)
					must(t, operate(test.operation, dir))
					test.after(t, dir)
					consistent(t, dir)
					if !killed {
						break
					}
					kills++
				}
			}
			t.Logf("killed at %d system calls", kills)
			if kills == 0 {
				t.Error("it was never killed")
			}
		})
	}
}

// runKilled does the operation in a process of its own, which is killed before
// its n-th system call of a kind; false when it has fewer.
func runKilled(t *testing.T, operation, dir, call string, n int) bool {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:error=EINTR:signal=SIGKILL:when=%d", call, n), self, dir)
	cmd.Env = append(os.Environ(), crashVariable+"="+operation, "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status := exit.Sys().(syscall.WaitStatus); status.Signaled() && status.Signal() == syscall.SIGKILL {
			return true
		}
	}
	t.Fatalf("%s: %v\n%s", operation, err, out)
	return false
}

func nothing(*testing.T, string) {}

// open opens a pool's folder until the test ends.
func open(t *testing.T, dir string) *safepath.Dir {
	t.Helper()
	root, err := safepath.Open(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

func made(t *testing.T, dir string) {
	t.Helper()
	must(t, operate("create", dir))
}

func filled(t *testing.T, dir string) {
	t.Helper()
	made(t, dir)
	inside := filepath.Join(dir, hashed("a"), "a")
	must(t, os.MkdirAll(filepath.Join(inside, "d/e"), 0o755))
	must(t, os.WriteFile(filepath.Join(inside, "d/f"), []byte("data"), 0o600))
}

func archived(t *testing.T, dir string) {
	t.Helper()
	filled(t, dir)
	root := open(t, dir)
	_, err := Subdirectory{Root: root}.SetReclaim(ctx, "a", schema.ReclaimArchive)
	must(t, err)
}

// consistent holds that every folder that counts as a volume has a whole record.
func consistent(t *testing.T, dir string) {
	t.Helper()
	root := open(t, dir)
	all, err := Subdirectory{Root: root}.List(ctx)
	must(t, err)
	blocks, err := Block{Root: root}.List(ctx)
	must(t, err)
	for _, v := range append(all, blocks...) {
		if v.Request != "a" || v.Size != 100 && v.Size != 200 {
			t.Errorf("a volume is half-made: %+v", v)
		}
	}
}

func has(size int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		root := open(t, dir)
		all, err := Subdirectory{Root: root}.List(ctx)
		if err != nil || len(all) != 1 || all[0].Size != size {
			t.Errorf("volumes %+v, %v", all, err)
		}
		if info, err := os.Stat(filepath.Join(dir, hashed("a"), "a")); err != nil || info.Mode().Perm() != volumeMode {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

// goneTo holds that the volume is gone and that n folders are where it goes.
func goneTo(folder string, n int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		root := open(t, dir)
		all, err := Subdirectory{Root: root}.List(ctx)
		must(t, err)
		aside, err := listed(root, folder)
		if err != nil || len(all) > 0 || len(aside) != n {
			t.Errorf("volumes %+v, in %s %v, %v", all, folder, aside, err)
		}
	}
}

// single holds that the pool has n holders, and that a pool without one is empty.
func single(t *testing.T, dir string, n int) {
	t.Helper()
	root := open(t, dir)
	all, err := Single{Root: root}.List(ctx)
	must(t, err)
	names, err := root.Names()
	if err != nil || len(all) != n || n == 0 && !slices.Equal(names, []string{own}) {
		t.Errorf("holders %+v, left %v, %v", all, names, err)
	}
}

func blockMade(t *testing.T, dir string) {
	t.Helper()
	must(t, operate("block create", dir))
}

func blockWritten(t *testing.T, dir string) {
	t.Helper()
	blockMade(t, dir)
	must(t, os.WriteFile(filepath.Join(dir, Block{}.Place("a")), bytes.Repeat([]byte("x"), 100), blockMode))
}

func snapshotMade(t *testing.T, dir string) {
	t.Helper()
	blockWritten(t, dir)
	must(t, operate("snapshot", dir))
}

// snapshots holds that there is one snapshot, that these are the volumes, and that all have
// the content of the first, and that nothing is left that was on its way.
func snapshots(volumes ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		b := Block{Root: open(t, dir)}
		all, err := b.Snapshots(ctx)
		if err != nil || len(all) != 1 || all[0].Volume != "a" || all[0].Size != 100 {
			t.Errorf("snapshots %+v, %v", all, err)
		}
		places := []string{snapshotPlace("s")}
		for _, v := range volumes {
			places = append(places, b.Place(v))
		}
		for _, place := range places {
			got, err := os.ReadFile(filepath.Join(dir, place))
			if err != nil || !bytes.HasPrefix(got, bytes.Repeat([]byte("x"), 100)) {
				t.Errorf("%s has %d bytes, %v", place, len(got), err)
			}
		}
		if left, err := listed(b.Root, ondisk.Copies); err != nil || len(left) > 0 {
			t.Errorf("left are %v, %v", left, err)
		}
	}
}

// blockHas holds that there is one volume of blocks, with a file of its size.
func blockHas(size int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		b := Block{Root: open(t, dir)}
		all, err := b.List(ctx)
		if err != nil || len(all) != 1 || all[0].Size != size || all[0].FileSystem != "xfs" {
			t.Errorf("volumes %+v, %v", all, err)
		}
		if info, err := os.Stat(filepath.Join(dir, b.Place("a"))); err != nil || info.Size() != size || info.Mode().Perm() != blockMode {
			t.Errorf("file %+v, %v", info, err)
		}
	}
}

// blockFormatted holds that the volume has been attached, and nobody has it.
func blockFormatted(t *testing.T, dir string) {
	t.Helper()
	a, err := Block{Root: open(t, dir)}.Attachment("a")
	if err != nil || a.Epoch < 1 || a.Epoch > 2 || a.Formatted != "xfs" || a.Node != "" {
		t.Errorf("attachment %+v, %v", a, err)
	}
}

func blockGone(trashed int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		root := open(t, dir)
		all, err := Block{Root: root}.List(ctx)
		must(t, err)
		aside, err := listed(root, blockTrash)
		if err != nil || len(all) > 0 || len(aside) != trashed {
			t.Errorf("volumes %+v, aside %v, %v", all, aside, err)
		}
	}
}

// sharedLeft holds that no node has the volume, or has left a note.
func sharedLeft(t *testing.T, dir string) {
	t.Helper()
	all, err := Block{Root: open(t, dir)}.Holders("a")
	if err != nil || len(all) > 0 {
		t.Errorf("holders %v, %v", all, err)
	}
}
