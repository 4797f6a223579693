// Package pods runs the brick pods that package render makes for pool documents, as processes, and
// kills, cuts off, replaces and adds bricks under writers.
package pods

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
	"github.com/atoll-storage/atoll/tests/internal/sandbox"
)

// stallLimit is longer than a write takes on a busy machine, and shorter than a write that waits
// for a brick that does not answer: network.ping-timeout is 42 s if a pool does not set it.
const stallLimit = 35 * time.Second

func TestMain(m *testing.M) {
	podrun.Child()
	sandbox.Parallel(4)
	os.Exit(sandbox.Run(m))
}

// eventually waits until a condition holds; if it never does, the test fails with logs.
func eventually(t *testing.T, c *podrun.Cluster, what string, holds func() bool) {
	t.Helper()
	await.True(t, what, holds, func() string {
		text := ""
		for _, pod := range c.Pods() {
			text += pod + " self-heal:\n" + c.Log(pod, "self-heal")
		}
		return text + "rebalance:\n" + c.Log("atoll-fast-rebalance-0", "rebalance")
	})
}

// connected waits until the client of a mount is connected to some bricks.
func connected(t *testing.T, c *podrun.Cluster, mount string, want int) {
	t.Helper()
	eventually(t, c, "the client is connected to the right number of bricks",
		func() bool { return bricks.Connected(mount) == want })
}

// ends calls a function that must return, sooner or later, and returns its error.
func ends(t *testing.T, what string, call func() error) error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- call() }()
	select {
	case err := <-result:
		return err
	case <-time.After(await.Limit):
		t.Fatalf("%s does not return", what)
		return nil
	}
}

// contains reports whether a directory has these files with their content.
func contains(dir string, files bricks.Files) bool {
	for name, sum := range files {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || bricks.Checksum(text) != sum {
			return false
		}
	}
	return true
}
