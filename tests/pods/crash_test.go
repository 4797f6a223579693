package pods

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/podrun"
)

// TestBricksCrash crashes the daemons of bricks again and again, all bricks of a pool among them. Each
// time they are started again in their container, and their agents count it.
func TestBricksCrash(t *testing.T) {
	t.Parallel()
	c := startOnPaths(t, "fast", "type: Replica3")
	dir, err := c.Mount(context.Background(), catalog.KeyFiles)
	if err != nil {
		t.Fatal(err)
	}
	before := bricks.Write(t, dir, "before", 10)
	w := bricks.StartWriter(filepath.Join(dir, "lines"))
	for range 6 { // more often than a kubelet would start it again within five minutes
		crash(t, c, "atoll-fast-1-0", "glusterfsd")
	}
	crash(t, c, "atoll-fast-1-0", "self-heal")
	connected(t, c, dir, 3)
	w.Finish(t) // two bricks served all the time
	crashed := map[string]int{}
	for _, pod := range c.Pods() {
		crashed[pod] = daemon(t, c, pod, "glusterfsd")
	}
	for _, pid := range crashed {
		kill(t, pid)
	}
	for pod, pid := range crashed {
		again(t, c, pod, "glusterfsd", pid)
	}
	connected(t, c, dir, 3)
	before.Verify(t, dir)
	bricks.Write(t, dir, "after", 10).Verify(t, dir)
	metrics, err := c.Get("atoll-fast-1-0", "http://127.0.0.1:24010/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for container, count := range map[string]int{"glusterfsd": 7, "self-heal": 1} {
		const sample = `atoll_brick_crashes_total{brick="1",daemon="%s",namespace="atoll-system",pool="fast"} %d`
		if want := fmt.Sprintf(sample, container, count); !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics lack %s:\n%s", want, metrics)
		}
	}
	log, err := os.ReadFile(filepath.Join(c.Dir, "logs", "atoll-fast-1-0.self-heal.log"))
	if err != nil || !strings.Contains(string(log), `"signal":"segmentation fault"`) {
		t.Errorf("the log of the self-heal daemon does not tell of its crash: %v\n%s", err, log)
	}
}

// crash crashes a daemon and waits until it runs again.
func crash(t *testing.T, c *podrun.Cluster, pod, container string) {
	t.Helper()
	pid := daemon(t, c, pod, container)
	kill(t, pid)
	again(t, c, pod, container, pid)
}

// daemon waits for the daemon of a container, and returns its process ID.
func daemon(t *testing.T, c *podrun.Cluster, pod, container string) (pid int) {
	t.Helper()
	eventually(t, c, container+" of "+pod+" runs", func() bool {
		pid = c.Daemon(pod, container)
		return pid != 0
	})
	return pid
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
}

// again waits until a daemon other than the former one runs.
func again(t *testing.T, c *podrun.Cluster, pod, container string, former int) {
	t.Helper()
	begin := time.Now()
	eventually(t, c, container+" of "+pod+" runs again", func() bool {
		pid := c.Daemon(pod, container)
		return pid != 0 && pid != former
	})
	t.Logf("%s of %s runs again after %s", container, pod, time.Since(begin).Round(time.Second/10))
}
