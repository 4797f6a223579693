package csi

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestPoolStaysAway calls the driver again and again for a pool that never answers, by callers that give up:
// first its brick is away, then its clients hang as well. However often they call, the driver has no more
// threads and open files than after the first calls.
func TestPoolStaysAway(t *testing.T) {
	t.Parallel()
	c, h, node, id := stagedVolume(t)
	controller := csi.NewControllerClient(h.Dial("controller.sock"))
	pod := h.StartPod(node, id, "pod", "rslave", false)
	calls := []func(context.Context){
		func(ctx context.Context) {
			_, _ = node.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: pod.Target})
		},
		func(ctx context.Context) {
			_, _ = node.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
				VolumeId: id, StagingTargetPath: h.Staging(), TargetPath: h.Path("kubelet/another"),
				VolumeCapability: host.AnyWriter(),
			})
		},
		func(ctx context.Context) {
			_, _ = node.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{
				VolumeId: id, VolumePublishPath: pod.Target,
			})
		},
		func(ctx context.Context) {
			_, _ = controller.CreateVolume(ctx, &csi.CreateVolumeRequest{
				Name: "another", VolumeCapabilities: []*csi.VolumeCapability{host.AnyWriter()},
				Parameters:    map[string]string{"pool": "p"},
				CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 20},
			})
		},
		func(ctx context.Context) {
			_, _ = controller.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		},
	}
	grows := func(when string) {
		t.Helper()
		repeat(calls, 10)
		before := map[string][2]int{}
		for role, cmd := range h.Roles {
			before[role] = inUse(t, cmd)
		}
		repeat(calls, 40)
		for role, cmd := range h.Roles {
			// Go's runtime adds threads when the machine is busy.
			if now := inUse(t, cmd); now[0] > before[role][0]+8 || now[1] > before[role][1]+8 {
				t.Errorf("%s, %s: %d threads and %d open files, after the first calls %d and %d\n%s", when, role, now[0],
					now[1], before[role][0], before[role][1], h.Logs())
			}
		}
	}
	bricks.Stop(c.Bricks[0])
	grows("the brick is away")
	for _, pid := range append(host.Clients(t, h.Path("mounts")), host.Clients(t, h.Path("controller-mounts"))...) {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer unix.Kill(pid, unix.SIGCONT)
	}
	grows("the clients hang")
}

// repeat makes each call some times, side by side. Callers wait for a quarter of a second.
func repeat(calls []func(context.Context), times int) {
	for range times {
		var all sync.WaitGroup
		for _, call := range calls {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
				defer cancel()
				call(ctx)
			})
		}
		all.Wait()
	}
}

// inUse counts the threads and the open files of a process.
func inUse(t *testing.T, cmd *exec.Cmd) (n [2]int) {
	t.Helper()
	for i, what := range []string{"task", "fd"} {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, what))
		if err != nil {
			t.Fatal(err)
		}
		n[i] = len(all)
	}
	return n
}
