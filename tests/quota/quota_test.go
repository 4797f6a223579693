// Package quota tests that volumes cannot exceed their sizes, with project quotas of XFS: first
// the system calls alone, then agents, bricks, mounts and the CSI driver. Each test runs in a
// virtual machine (package vm), because the kernels of many test machines lack quotas.
package quota

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/linux/prjquota"
	"github.com/atoll-storage/atoll/tests/internal/vm"
)

const mib = 1 << 20

// xfs creates a file system and mounts it with these options.
func xfs(t *testing.T, device, options string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("mkfs.xfs", "-q", "-f", device).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.xfs: %v\n%s", err, out)
	}
	mount(t, device, dir, options)
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func mount(t *testing.T, device, dir, options string) {
	t.Helper()
	if err := unix.Mount(device, dir, "xfs", 0, options); err != nil {
		t.Fatalf("mount %s: %v", device, err)
	}
}

// folder opens a directory for reading. It is created if it does not exist.
func folder(t *testing.T, path string) *os.File {
	t.Helper()
	if err := os.MkdirAll(path, 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// fill writes a file until a write fails, at most limit bytes.
func fill(path string, limit int) (written int, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	block := bytes.Repeat([]byte{1}, mib/4) // zeros would be healed as holes
	for written < limit {
		if _, err := f.Write(block); err != nil {
			return written, err
		}
		if err := f.Sync(); err != nil {
			return written, err
		}
		written += len(block)
	}
	return written, nil
}

// checkFull fills a directory: about this many bytes fit, then a write must fail with ENOSPC or
// with one of the errors in too.
func checkFull(t *testing.T, dir string, about int, too ...error) {
	t.Helper()
	n, err := fill(filepath.Join(dir, "file"), 2*about+8*mib)
	said := slices.ContainsFunc(append(too, unix.ENOSPC), func(e error) bool { return errors.Is(err, e) })
	if !said || n < about-mib || n > about+mib {
		t.Errorf("%s: %d bytes were written, want about %d; then %v", dir, n, about, err)
	}
}

// checkSize checks that statfs of a directory reports its limit as the size.
func checkSize(t *testing.T, dir string, bytes int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || int64(st.Blocks)*st.Frsize != bytes {
		t.Errorf("%s shows %d bytes, want %d: %v", dir, int64(st.Blocks)*st.Frsize, bytes, err)
	}
}

// TestProjectQuota sets, changes and clears limits of directories on XFS.
func TestProjectQuota(t *testing.T) {
	disks, isInside := vm.Run(t, 512*mib, 512*mib)
	if !isInside {
		return
	}
	without := folder(t, xfs(t, disks[1], ""))
	if _, err := prjquota.Open(without); !errors.Is(err, prjquota.ErrUnsupported) {
		t.Errorf("without prjquota: %v", err)
	}
	without.Close()
	root := xfs(t, disks[0], "prjquota")
	a, b := filepath.Join(root, "a"), filepath.Join(root, "b")
	// Two directories with the same seed get different projects. Repeating changes nothing.
	for range 2 {
		setLimit(t, root, a, 16*mib)
		setLimit(t, root, b, 8*mib)
	}
	for dir, bytes := range map[string]int{a: 16 * mib, b: 8 * mib} {
		checkSize(t, dir, int64(bytes))
		checkFull(t, dir, bytes)
	}
	if err := os.Rename(filepath.Join(a, "file"), filepath.Join(b, "other")); !errors.Is(err, unix.EXDEV) {
		t.Errorf("moving a file into another project: %v", err)
	}
	setLimit(t, root, a, 24*mib) // works at once, and after the next mount
	checkFull(t, a, 24*mib)
	if err := unix.Unmount(root, 0); err != nil {
		t.Fatal(err)
	}
	mount(t, disks[0], root, "prjquota")
	checkSize(t, a, 24*mib)
	checkFull(t, a, 24*mib)
	checkCleared(t, root, a)
}

// setLimit sets the limit of a directory and leaves nothing open.
func setLimit(t *testing.T, root, dir string, bytes uint64) {
	t.Helper()
	r, d := folder(t, root), folder(t, dir)
	defer r.Close()
	defer d.Close()
	s, err := prjquota.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Limit(d, "seed", bytes); err != nil {
		t.Fatal(err)
	}
	if err := s.Limit(d, "seed", 0); err == nil {
		t.Error("a limit of 0 bytes is accepted")
	}
	if u, err := s.Usage(d); err != nil || u.Limit != bytes || u.Files == 0 {
		t.Errorf("usage of %s: %+v, %v", dir, u, err)
	}
}

// checkCleared removes the limit of a directory: more fits into it, and its use is still counted.
func checkCleared(t *testing.T, root, dir string) {
	t.Helper()
	r, d, other := folder(t, root), folder(t, dir), folder(t, filepath.Join(root, "c"))
	defer r.Close()
	defer d.Close()
	defer other.Close()
	s, err := prjquota.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Clear(d); err != nil {
		t.Fatal(err)
	}
	if u, err := s.Usage(d); err != nil || u.Limit != 0 || u.Bytes < 23*mib {
		t.Errorf("after clearing: %+v, %v", u, err)
	}
	if n, err := fill(filepath.Join(dir, "more"), 8*mib); err != nil {
		t.Errorf("without a limit, after %d bytes: %v", n, err)
	}
	// A cleared project keeps its files: another directory does not get the same project.
	if err := s.Limit(other, "seed", 4*mib); err != nil {
		t.Fatal(err)
	}
	checkFull(t, other.Name(), 4*mib)
	if _, err := s.Usage(r); !errors.Is(err, prjquota.ErrNone) {
		t.Errorf("usage of the root: %v", err)
	}
}
