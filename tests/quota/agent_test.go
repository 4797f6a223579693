package quota

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	agents "github.com/atoll-storage/atoll/brick/agent"
	"github.com/atoll-storage/atoll/brick/quota"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/tests/internal/vm"
)

// TestLimitsReturn gives an agent a brick as it is after a replacement: directories, records and
// files are healed, limits are not. The agent sets limits from the records, and files that are
// already there count.
func TestLimitsReturn(t *testing.T) {
	disks, isInside := vm.Run(t, 512*mib)
	if !isInside {
		return
	}
	brick := xfs(t, disks[0], "prjquota")
	at := filepath.Join(brick, "subvol/aa/bb/v")
	deep := filepath.Join(at, "a/b/c")
	if err := os.MkdirAll(deep, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := fill(filepath.Join(deep, "before"), 8*mib); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(at, "link")); err != nil { // a tenant's
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(at, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	record, err := ondisk.Record{Version: ondisk.Version, Request: "v", Size: 16 * mib, Reclaim: "Delete"}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(at, ondisk.Attribute, record, 0); err != nil {
		t.Fatal(err)
	}
	served := agents.Brick{Namespace: "n", Pool: "p", Position: "0", Directory: brick, Parts: 1}
	a, err := agents.New(served, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for range 2 {
		if err := a.Derive(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	q, err := quota.Open(brick)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	u, err := q.Usage("subvol/aa/bb/v")
	if err != nil || u.Limit != 16*mib || u.Bytes < 8*mib || u.Bytes > 9*mib {
		t.Errorf("usage %+v, %v", u, err)
	}
	checkFull(t, at, 8*mib)
	// An interruption while files joined the project leaves a mark. The next derivation continues.
	sum := sha256.Sum256([]byte("subvol/aa/bb/v"))
	mark := filepath.Join(brick, ".glusterfs/atoll/joining", hex.EncodeToString(sum[:16]))
	if err := os.MkdirAll(mark, 0o700); err != nil {
		t.Fatal(err)
	}
	if complete, err := q.Complete("subvol/aa/bb/v"); err != nil || complete {
		t.Errorf("complete: %t, %v", complete, err)
	}
	if err := a.Derive(context.Background()); err != nil {
		t.Fatal(err)
	}
	if complete, err := q.Complete("subvol/aa/bb/v"); err != nil || !complete {
		t.Errorf("complete: %t, %v", complete, err)
	}
}
