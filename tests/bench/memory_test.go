package bench

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
	"github.com/atoll-storage/atoll/tests/internal/report"
)

// mostMemory is what the client of a pool may take, in MiB, however many files it has seen: see the
// mounter's container in kustomize/base/csi.
const mostMemory = 256

// TestMemory has a client find ever more files, as 'find /' does, and reads how much memory it has taken.
func TestMemory(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	clients := host.NewPoolClients(t)
	c.Catalog(clients.Pools, schema.Subdirectory)
	root := clients.Mount(t, schema.Subdirectory)
	pid := host.Clients(t, clients.Dir)[0]
	table := report.Head(0, "Files found", "Memory of the client", "Time")
	made := 0
	for _, n := range pick([]int{10_000, 100_000, 300_000}, []int{1000, 2000}) {
		for ; made < n; made += 1000 {
			makeFiles(t, filepath.Join(c.Pool.Bricks[0].Directory, strconv.Itoa(made)), 1000)
		}
		began := time.Now()
		if found := find(t, root); found < n {
			t.Errorf("found %d of %d files", found, n)
		}
		took, memory := time.Since(began), memoryOf(t, pid)
		table.Row(strconv.Itoa(n), fmt.Sprintf("%d MiB", memory), fmt.Sprintf("%.0f s", took.Seconds()))
		t.Logf("%d files: %d MiB, %s", n, memory, took)
		if memory > mostMemory {
			t.Errorf("the client has taken %d MiB for %d files", memory, n)
		}
	}
	writeTable(t, "csi.md", "memory", table.String())
}

// makeFiles makes a directory of a brick with empty files. The brick names them when a client finds them.
func makeFiles(t *testing.T, dir string, n int) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// find reads the attributes of all files of a mount, and counts them.
func find(t *testing.T, root string) (n int) {
	t.Helper()
	err := filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
			_, err = d.Info()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// memoryOf is the most memory that a process has taken, in MiB.
func memoryOf(t *testing.T, pid int) (mib int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var kib int
		if _, err := fmt.Sscanf(string(line), "VmHWM: %d kB", &kib); err == nil {
			return kib / 1024
		}
	}
	t.Fatalf("no VmHWM of process %d", pid)
	return 0
}
