package csi

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestPodsOutliveOutage takes the only brick of a pool away under running pods, for longer than the
// node plugin and its callers wait, and brings it back. Nothing is left to do: every container goes
// on with its mount and its open file, nothing was mounted over them, and the client is the same.
func TestPodsOutliveOutage(t *testing.T) {
	t.Parallel()
	c, h, n, id := stagedVolume(t)
	pods := []host.Pod{h.StartPod(n, id, "propagated", "rslave", false), h.StartPod(n, id, "private", "private", false)}
	var open []*os.File
	for i, p := range pods {
		f, err := os.Create(p.At("file" + string(rune('0'+i))))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		open = append(open, f)
	}
	pids, before := host.Clients(t, h.Path("mounts")), mountsBelow(t, h.Path("kubelet"))
	bricks.Stop(c.Bricks[0])
	c.Eventually("the volume does not answer", func() bool {
		_, err := os.Stat(pods[0].At("."))
		return errors.Is(err, unix.ENOTCONN)
	})
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	for range 4 { // each waits for as long as a client may take to answer
		_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: id, StagingTargetPath: h.Staging(), TargetPath: h.Path("kubelet/another"),
			VolumeCapability: host.AnyWriter(),
		})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("publish during the outage: %v", err)
		}
	}
	c.StartBrick(0)
	for i, p := range pods {
		c.Eventually("a container has its volume", func() bool {
			_, err := os.Stat(p.At("."))
			return err == nil
		})
		_, err := open[i].WriteString("text")
		if err == nil {
			err = open[i].Sync()
		}
		if text, readErr := os.ReadFile(p.At("file" + string(rune('0'+i)))); err != nil || string(text) != "text" {
			t.Errorf("an open file: %q, %v", text, errors.Join(err, readErr))
		}
	}
	if now := host.Clients(t, h.Path("mounts")); !slices.Equal(now, pids) {
		t.Errorf("clients %v, before %v", now, pids)
	}
	if now := mountsBelow(t, h.Path("kubelet")); !slices.Equal(now, before) {
		t.Errorf("mounts:\n%v\nbefore:\n%v", now, before)
	}
}

// mountsBelow lists the paths of all mounts below a directory; one that is covered is listed too.
func mountsBelow(t *testing.T, dir string) (paths []string) {
	t.Helper()
	all, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		paths = append(paths, m.Mountpoint)
	}
	slices.Sort(paths)
	return paths
}
