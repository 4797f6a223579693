// Package e2e tests Atoll on a real cluster: three nodes with containerd and kubelet, the
// shipped manifests, Kubernetes' provisioner and resizer, and pods that mount volumes.
// 'make test-cluster' builds the images and runs the shorter part, 'make e2e' runs all.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/cluster"
)

// full is set by make e2e.
var full = flag.Bool("full", false, "also run tests that take minutes each")

// The cluster of all tests, started by the first test that needs it.
var (
	once    sync.Once
	shared  *cluster.Cluster
	failure error
)

// bootLimit includes importing images on three nodes.
const bootLimit = 4 * time.Minute

func TestMain(m *testing.M) {
	cluster.Child()
	flag.Parse()
	code := m.Run()
	if shared != nil {
		if code != 0 {
			keepState(shared)
			fmt.Println("logs of all components: " + filepath.Join(shared.Dir, "log"))
		}
		if err := shared.Down(); err != nil {
			fmt.Println("stop the cluster:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// boot returns the cluster, with Atoll installed.
func boot(t *testing.T) *env {
	t.Helper()
	if os.Getuid() != 0 || testing.Short() {
		t.Skip("starts nodes as processes: needs root and no -short")
	}
	cache, err := filepath.Abs("../../.cache")
	if err != nil {
		t.Fatal(err)
	}
	s := cluster.Default(filepath.Join(cache, "e2e"))
	s.Disks, s.DiskSize = 8, 2<<30 // a disk for each test; one test fills its disk
	if *suite {
		s.DiskSize = 50 << 30 // its volumes are large; the disks are sparse files
	}
	if _, err := os.Stat(s.Archive); err != nil {
		t.Skip("no images: run make test-cluster, which builds them")
	}
	once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
		defer cancel()
		s.Watched = true
		start := time.Now()
		if shared, failure = cluster.Up(ctx, s, func(line string) { t.Log(line) }); failure == nil {
			failure = install(ctx, shared)
			t.Logf("Atoll installed after %s", time.Since(start).Round(time.Second))
		}
	})
	if failure != nil {
		t.Fatal(failure)
	}
	return &env{T: t, Cluster: shared}
}

// onlyFull skips tests that only make e2e runs.
func onlyFull(t *testing.T) {
	t.Helper()
	if !*full {
		t.Skip("part of make e2e")
	}
}
