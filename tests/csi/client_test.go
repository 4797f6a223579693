package csi

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestClientDies kills the client of the controller's pool: the next call finds it
// dead and has another one; there is never more than one.
func TestClientDies(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	mounts := h.Path("controller-mounts")
	address := host.Address(t)
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", mounts, "--health", address)
	client := csi.NewControllerClient(h.Dial("controller.sock"))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	create := func(name string) error {
		_, err := client.CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name: name, Parameters: map[string]string{"pool": "p"}, CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 20},
			VolumeCapabilities: []*csi.VolumeCapability{host.AnyWriter()},
		})
		return err
	}
	if err := create("before"); err != nil {
		t.Fatalf("%v\n%s", err, h.Logs())
	}
	for range 3 {
		pids := host.Clients(t, mounts)
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
			t.Fatalf("after the client's end: %v\n%s", err, h.Logs())
		}
	}
	listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil || len(listed.GetEntries()) != 2 {
		t.Errorf("listed %v, %v", listed, err)
	}
	for _, want := range []string{
		`atoll_client_starts_total{pool="p"} 4`, "atoll_clients_running 1", `atoll_pool_size_bytes{pool="p"}`, `atoll_pool_promised_bytes{pool="p"}`,
		`atoll_csi_call_duration_seconds_count{code="OK",method="/csi.v1.Controller/CreateVolume"}`,
	} {
		if text := host.Get(t, address, "/metrics"); !strings.Contains(text, want) {
			t.Errorf("the metrics do not tell %s:\n%s", want, text)
		}
	}
	if text := host.Get(t, address, "/healthz"); text != "ok\n" {
		t.Errorf("health: %s", text)
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
			t.Fatalf("with the brick back: %v\n%s", err, h.Logs())
		}
	}
}

// TestPodComesBack kills the client of a node's pool under two pods. What they have
// is dead, and says so; a pod that is started again has the volume back, though
// the kubelet believes it staged.
func TestPodComesBack(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	h.Start("mounter", "--socket", h.Path("mounter.sock"))
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", h.Path("controller-mounts"))
	h.StartNode()
	plugin := h.Dial("node.sock")
	id, target := h.Volume(h.Dial("controller.sock"), plugin)
	if err := os.WriteFile(filepath.Join(target, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	pids := host.Clients(t, h.Path("mounts"))
	if len(pids) != 1 {
		t.Fatalf("clients %v", pids)
	}
	if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n := csi.NewNodeClient(plugin)
	for reason := ""; reason != "NoAnswer"; time.Sleep(20 * time.Millisecond) {
		health, err := n.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: target})
		if err != nil {
			t.Fatal(err)
		}
		if s := health.GetVolumeHealth().GetHealthStatuses(); len(s) == 1 {
			reason = s[0].GetReason()
		}
	}
	publish := func(path string) error {
		_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: id, StagingTargetPath: h.Path("kubelet/staging"), TargetPath: path,
			VolumeCapability: host.AnyWriter(),
		})
		return err
	}
	for _, path := range []string{h.Path("kubelet/other"), target} { // a new pod, and the old one's path
		if err := publish(path); err != nil {
			t.Fatalf("publishing at %s: %v\n%s", path, err, h.Logs())
		}
		if text, err := os.ReadFile(filepath.Join(path, "file")); err != nil || string(text) != "text" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	for _, path := range []string{h.Path("kubelet/other"), target} {
		h.Unpublish(n, id, path)
	}
}
