package gluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// probedWithin is longer than a probe takes on a busy machine (gluster.ProbeLimit is 5 s), and
// shorter than a mount that fails: 20 s (csi/mounts).
const probedWithin = 3 * gluster.ProbeLimit

// killBrick kills a brick that glusterd started.
func killBrick(t *testing.T, g *bricks.Glusterd, volume string, index int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(g.Dir, "run/vols", volume,
		fmt.Sprintf("*brick-%s-%d.pid", volume, index)))
	if err != nil || len(files) != 1 {
		t.Fatalf("pid files %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	g.Eventually("the brick has ended", func() bool { return unix.Kill(pid, 0) != nil })
}

// TestProbe probes volumes of a real glusterd in every state. The errors say what is wrong, sooner
// than a mount would fail.
func TestProbe(t *testing.T) {
	t.Parallel()
	g := bricks.StartGlusterd(t, "127.1.1.5")
	g.Create("good", 3, "replica", "3")
	g.Do("volume", "start", "good")
	g.Create("stopped", 1)
	probe := func(volume string, hosts ...string) (gluster.Report, error) {
		begin := time.Now()
		r, err := gluster.Server{Hosts: hosts, Volume: volume}.Probe(context.Background())
		if took := time.Since(begin); took > probedWithin {
			t.Errorf("probe of %s took %s", volume, took)
		}
		return r, err
	}
	// The first host refuses connections, and the second name does not resolve.
	r, err := probe("good", "127.1.1.99", "no-such-host.invalid", "127.1.1.5")
	if err != nil || r.Bricks != 3 || len(r.Problems) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := probe("missing", "127.1.1.5"); !errors.Is(err, gluster.ErrNoVolume) {
		t.Errorf("missing: %v", err)
	}
	if _, err := probe("stopped", "127.1.1.5"); !errors.Is(err, gluster.ErrStopped) {
		t.Errorf("stopped: %v", err)
	}
	killBrick(t, g, "good", 1)
	if r, err := probe("good", "127.1.1.5"); err != nil || len(r.Problems) != 1 ||
		!strings.Contains(r.Problems[0], "brick 1") {
		t.Errorf("one brick down: %+v, %v", r, err)
	}
	killBrick(t, g, "good", 2)
	if _, err := probe("good", "127.1.1.5"); !errors.Is(err, gluster.ErrNoQuorum) ||
		!strings.Contains(err.Error(), "brick 1") || !strings.Contains(err.Error(), "brick 2") {
		t.Errorf("two bricks down: %v", err)
	}
}
