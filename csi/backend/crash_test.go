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

// crashVariable makes the test binary do one operation and exit.
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
		_, err = b.Create(ctx, request("a", 100))
	case "expand":
		_, err = b.Expand(ctx, "a", 200)
	case "delete", "archive":
		err = b.Delete(ctx, "a")
	case "sweep":
		err = Sweep(ctx, root, schema.Subdirectory, logr.Discard())
	case "single create":
		_, err = Single{Root: root}.Create(ctx, request("a", 100))
	case "single delete":
		err = Single{Root: root}.Delete(ctx, "a")
	case "block create":
		_, err = Block{Root: root}.Create(ctx, blockRequest)
	case "block expand":
		_, err = Block{Root: root}.Expand(ctx, "a", 200)
	case "block delete":
		err = Block{Root: root}.Delete(ctx, "a")
	case "block sweep":
		err = Sweep(ctx, root, schema.Block, logr.Discard())
	case "shared create":
		c := request("a", 100)
		c.Shared = true
		_, err = Block{Root: root}.Create(ctx, c)
	case "shared attach":
		err = attach(Block{Root: root})
	case "block attach":
		err = attach(Block{Root: root})
	case "snapshot":
		err = takeSnapshot(root)
	case "restore":
		err = restoreSnapshot(root)
	case "delete snapshot":
		err = Block{Root: root}.DeleteSnapshot("s")
	}
	return err
}

var blockRequest = func() CreateRequest {
	c := request("a", 100)
	c.FileSystem = "xfs"
	return c
}()

// attach attaches a volume, records a file system on it, and detaches it.
func attach(b Block) error {
	t, err := b.Lock("a")
	if err != nil {
		return err
	}
	return errors.Join(t.Attach("node", "boot", nil), t.MarkFormatted("xfs"), t.Detach(), t.Close())
}

// calls are the system calls that change or read a pool.
var calls = []string{
	"mkdirat", "setxattr", "removexattr", "renameat", "unlinkat", "fchmodat", "chmod", "openat2",
	"getdents64", "getxattr", "listxattr", "fstat", "ftruncate", "fcntl", "lseek", "pread64", "pwrite64", "fsync",
}

// TestKilledAtEverySystemCall kills each operation with SIGKILL at each of its system calls in
// turn, and repeats it: no incomplete volume is ever listed, nothing is lost, and the result of
// the repeat is as if nothing had happened.
func TestKilledAtEverySystemCall(t *testing.T) {
	if testing.Short() {
		t.Skip("runs every operation dozens of times: not with -short")
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed; run make deps as root")
	}
	for _, test := range []struct {
		operation string
		before    func(t *testing.T, dir string)
		after     func(t *testing.T, dir string)
	}{
		{"create", emptyPool, checkVolume(100)},
		{"expand", created, checkVolume(200)},
		{"delete", filled, checkDeleted(trash, 1)},
		{"archive", archived, checkDeleted(archive, 1)},
		{
			"sweep", func(t *testing.T, dir string) { filled(t, dir); must(t, operate("delete", dir)) },
			checkDeleted(trash, 0),
		},
		{"single create", emptyPool, func(t *testing.T, dir string) { checkSingle(t, dir, 1) }},
		{"single delete", func(t *testing.T, dir string) {
			must(t, operate("single create", dir))
			must(t, os.MkdirAll(filepath.Join(dir, "data/below"), 0o755))
			must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
		}, func(t *testing.T, dir string) { checkSingle(t, dir, 0) }},
		{"block create", emptyPool, checkBlock(100)},
		{"block expand", blockCreated, checkBlock(200)},
		{"block attach", blockCreated, checkFormatted},
		{"shared attach", func(t *testing.T, dir string) { must(t, operate("shared create", dir)) }, checkNoHolders},
		{"block delete", blockCreated, checkBlockDeleted(1)},
		{"block sweep", blockDeleted, checkBlockDeleted(0)},
		{"snapshot", blockWritten, checkSnapshot("a")},
		{"restore", snapshotCreated, checkSnapshot("a", "b")},
		{"delete snapshot", snapshotCreated, func(t *testing.T, dir string) {
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
					checkConsistent(t, dir)
					must(t, operate(test.operation, dir))
					test.after(t, dir)
					checkConsistent(t, dir)
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

// runKilled does the operation in another process, which is killed before its n-th system call
// of a kind; false when it makes fewer.
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

func emptyPool(*testing.T, string) {}

// open opens a pool's directory until the test ends.
func open(t *testing.T, dir string) *safepath.Dir {
	t.Helper()
	root, err := safepath.Open(dir)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	return root
}

func created(t *testing.T, dir string) {
	t.Helper()
	must(t, operate("create", dir))
}

func filled(t *testing.T, dir string) {
	t.Helper()
	created(t, dir)
	inside := filepath.Join(dir, parentDir("a"), "a")
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

// checkConsistent checks that every listed volume has a complete record.
func checkConsistent(t *testing.T, dir string) {
	t.Helper()
	root := open(t, dir)
	all, err := Subdirectory{Root: root}.List(ctx)
	must(t, err)
	blocks, err := Block{Root: root}.List(ctx)
	must(t, err)
	for _, v := range append(all, blocks...) {
		if v.Request != "a" || v.Size != 100 && v.Size != 200 {
			t.Errorf("incomplete volume: %+v", v)
		}
	}
}

// checkVolume checks that there is one volume, with this size.
func checkVolume(size int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		root := open(t, dir)
		all, err := Subdirectory{Root: root}.List(ctx)
		if err != nil || len(all) != 1 || all[0].Size != size {
			t.Errorf("volumes %+v, %v", all, err)
		}
		if info, err := os.Stat(filepath.Join(dir, parentDir("a"), "a")); err != nil ||
			info.Mode().Perm() != volumeMode {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	}
}

// checkDeleted checks that there is no volume, and n entries in the trash or archive.
func checkDeleted(to string, n int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		root := open(t, dir)
		all, err := Subdirectory{Root: root}.List(ctx)
		must(t, err)
		moved, err := listNames(root, to)
		if err != nil || len(all) > 0 || len(moved) != n {
			t.Errorf("volumes %+v, in %s %v, %v", all, to, moved, err)
		}
	}
}

// checkSingle checks that the pool is n volumes, and empty if it is none.
func checkSingle(t *testing.T, dir string, n int) {
	t.Helper()
	root := open(t, dir)
	all, err := Single{Root: root}.List(ctx)
	must(t, err)
	names, err := root.Names()
	if err != nil || len(all) != n || n == 0 && !slices.Equal(names, []string{atollDir}) {
		t.Errorf("volumes %+v, left %v, %v", all, names, err)
	}
}

func blockCreated(t *testing.T, dir string) {
	t.Helper()
	must(t, operate("block create", dir))
}

func blockDeleted(t *testing.T, dir string) {
	t.Helper()
	blockCreated(t, dir)
	must(t, operate("block delete", dir))
}

func blockWritten(t *testing.T, dir string) {
	t.Helper()
	blockCreated(t, dir)
	must(t, os.WriteFile(filepath.Join(dir, Block{}.Place("a")), bytes.Repeat([]byte("x"), 100), blockMode))
}

func snapshotCreated(t *testing.T, dir string) {
	t.Helper()
	blockWritten(t, dir)
	must(t, operate("snapshot", dir))
}

// checkSnapshot checks that there is one snapshot, that it and these volumes have the content
// that was written, and that no copy is left over.
func checkSnapshot(volumes ...string) func(*testing.T, string) {
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
		if left, err := listNames(b.Root, ondisk.Copies); err != nil || len(left) > 0 {
			t.Errorf("copies left: %v, %v", left, err)
		}
	}
}

// checkBlock checks that there is one block volume, with a file of its size.
func checkBlock(size int64) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		b := Block{Root: open(t, dir)}
		all, err := b.List(ctx)
		if err != nil || len(all) != 1 || all[0].Size != size || all[0].FileSystem != "xfs" {
			t.Errorf("volumes %+v, %v", all, err)
		}
		info, err := os.Stat(filepath.Join(dir, b.Place("a")))
		if err != nil || info.Size() != size || info.Mode().Perm() != blockMode {
			t.Errorf("file %+v, %v", info, err)
		}
	}
}

// checkFormatted checks that the volume was attached and formatted, and is not attached.
func checkFormatted(t *testing.T, dir string) {
	t.Helper()
	a, err := Block{Root: open(t, dir)}.Attachment("a")
	if err != nil || a.Epoch < 1 || a.Epoch > 2 || a.Formatted != "xfs" || a.Node != "" {
		t.Errorf("attachment %+v, %v", a, err)
	}
}

// checkBlockDeleted checks that there is no block volume, and n files in the trash.
func checkBlockDeleted(n int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		root := open(t, dir)
		all, err := Block{Root: root}.List(ctx)
		must(t, err)
		trashed, err := listNames(root, blockTrash)
		if err != nil || len(all) > 0 || len(trashed) != n {
			t.Errorf("volumes %+v, trash %v, %v", all, trashed, err)
		}
	}
}

// checkNoHolders checks that no node has the volume attached, and no record of one is left.
func checkNoHolders(t *testing.T, dir string) {
	t.Helper()
	all, err := Block{Root: open(t, dir)}.Holders("a")
	if err != nil || len(all) > 0 {
		t.Errorf("holders %v, %v", all, err)
	}
}
