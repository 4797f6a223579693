package csi

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// startGeneration starts a mounter beside those that run, and waits until new mounts use it.
func startGeneration(t *testing.T, h *host.Host, c *bricks.Cluster, name string) *exec.Cmd {
	t.Helper()
	cmd := h.Start("mounter", "--socket", h.Path("mounter.sock"), "--generation", name)
	c.Eventually("mounter "+name+" is the newest", func() bool {
		to, err := os.Readlink(h.Path("mounter.sock"))
		return err == nil && to == "mounters/"+name+".sock"
	})
	return cmd
}

// TestMountersTakeTurns replaces the mounter under a writer, as an update of its DaemonSet does: the
// former one keeps what it has, until nothing is left of that, and the new one does all that is new.
func TestMountersTakeTurns(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	h.Share()
	one := startGeneration(t, h, c, "one")
	n, id := stage(h)
	pod := h.StartPod(n, id, "private", "private", false)
	w := bricks.StartWriter(pod.At("lines"))
	before := without(mountsBelow(t, h.Path("kubelet")), h.Staging())
	startGeneration(t, h, c, "two")
	if err := one.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	clients := host.Clients(t, h.Path("mounts/one"))
	if len(clients) != 1 {
		t.Fatalf("clients of the former mounter: %v", clients)
	}
	w.Progress(t, 100)
	later := h.StartPod(n, id, "later", "private", false) // of the volume that is staged already
	if all := host.Clients(t, h.Path("mounts/two")); len(all) != 1 {
		t.Errorf("clients of the new mounter after a pod was started: %v", all)
	}
	repaired(t, h, c, "two", later.Target)
	if now := without(mountsBelow(t, h.Path("kubelet")), later.Target, h.Staging()); !slices.Equal(now, before) {
		t.Errorf("mounts of the former mounter:\n%v\nbefore:\n%v", now, before)
	}
	if all := host.Clients(t, h.Path("mounts/one")); !slices.Equal(all, clients) {
		t.Errorf("clients of the former mounter %v, before %v", all, clients)
	}
	w.Kept = true
	w.Finish(t)
	bricks.Stop(pod.Container)
	h.Unpublish(n, id, pod.Target)
	c.Eventually("the former mounter has ended, and left nothing", func() bool {
		return len(host.Clients(t, h.Path("mounts/one"))) == 0 && !exists(h.Path("mounters/one.sock")) &&
			!exists(h.Path("mounts/one"))
	})
}

// TestMounterKilled kills a mounter under a pod. The next one removes what it left, and the volume is
// mounted again.
func TestMounterKilled(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	h.Share()
	one := startGeneration(t, h, c, "one")
	n, id := stage(h)
	pod := h.StartPod(n, id, "propagated", "rslave", false)
	if err := os.WriteFile(pod.At("file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := one.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	bricks.Stop(one)
	startGeneration(t, h, c, "two")
	c.Eventually("the volume is mounted again", func() bool {
		text, err := os.ReadFile(pod.At("file"))
		return err == nil && string(text) == "text"
	})
	if exists(h.Path("mounters/one.sock")) || exists(h.Path("mounts/one")) {
		t.Error("something is left of the mounter that was killed")
	}
}

// repaired kills the client of a mounter, and waits until the volume at a path is mounted again.
func repaired(t *testing.T, h *host.Host, c *bricks.Cluster, generation, path string) {
	t.Helper()
	for _, pid := range host.Clients(t, h.Path("mounts/"+generation)) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	c.Eventually("the volume of the new mounter is mounted again", func() bool {
		_, err := os.ReadDir(path)
		return err == nil
	})
}

// without drops paths from a list of mounts, however often they are covered.
func without(mounts []string, paths ...string) []string {
	return slices.DeleteFunc(mounts, func(m string) bool { return slices.Contains(paths, m) })
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
