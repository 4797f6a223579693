package csi

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/bricks"
)

// clients gives the processes of glusterfs that mount below a folder.
func clients(t *testing.T, dir string) []int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err != nil || !strings.HasPrefix(string(text), "glusterfs\x00") || !strings.Contains(string(text), dir+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(line))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestClientDies kills the client of the controller's pool: the next call finds it
// dead and has another one; there is never more than one.
func TestClientDies(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := newHost(t, c)
	mounts := h.path("controller-mounts")
	h.start("controller", "--endpoint", "unix://"+h.path("controller.sock"), "--mounts", mounts)
	client := csi.NewControllerClient(h.dial("controller.sock"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	create := func(name string) error {
		_, err := client.CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name: name, Parameters: map[string]string{"pool": "p"}, CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 20},
			VolumeCapabilities: []*csi.VolumeCapability{{
				AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
				AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
			}},
		})
		return err
	}
	if err := create("before"); err != nil {
		t.Fatalf("%v\n%s", err, h.logs())
	}
	for range 3 {
		pids := clients(t, mounts)
		if len(pids) != 1 {
			t.Fatalf("clients %v", pids)
		}
		if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		err := create("after")
		for status.Code(err) == codes.Unavailable { // the call that finds it out
			err = create("after")
		}
		if err != nil {
			t.Fatalf("after the client's end: %v\n%s", err, h.logs())
		}
	}
	listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil || len(listed.GetEntries()) != 2 {
		t.Errorf("listed %v, %v", listed, err)
	}
	// A pool whose bricks are away says so, in time, and is found again.
	bricks.Stop(c.Bricks[0])
	short, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	begin := time.Now()
	if _, err := client.ListVolumes(short, &csi.ListVolumesRequest{}); err == nil || time.Since(begin) > 14*time.Second {
		t.Errorf("with the brick away: %v after %s", err, time.Since(begin))
	}
	c.StartBrick(0)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
		if err == nil && len(listed.GetEntries()) == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("with the brick back: %v\n%s", err, h.logs())
		}
	}
}
