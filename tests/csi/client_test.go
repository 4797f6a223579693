package csi

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// TestControllerClientKilled kills the client of the controller's pool. The next calls start
// another one; there is never more than one.
func TestControllerClientKilled(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	mounts := h.Path("controller-mounts")
	address := host.Address(t)
	h.Start("controller", "--endpoint", "unix://"+h.Path("controller.sock"), "--mounts", mounts, "--health", address)
	client := csi.NewControllerClient(h.Dial("controller.sock"))
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	create := func(name string) error {
		_, err := client.CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name: name, Parameters: map[string]string{"pool": "p"},
			CapacityRange:      &csi.CapacityRange{RequiredBytes: 1 << 20},
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
		for status.Code(err) == codes.Unavailable { // the call that notices
			err = create("after")
		}
		if err != nil {
			t.Fatalf("after the client was killed: %v\n%s", err, h.Logs())
		}
	}
	listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil || len(listed.GetEntries()) != 2 {
		t.Errorf("listed %v, %v", listed, err)
	}
	for _, want := range []string{
		`atoll_client_starts_total{pool="p"} 4`, "atoll_clients_running 1", `atoll_pool_size_bytes{pool="p"}`,
		`atoll_pool_promised_bytes{pool="p"}`,
		`atoll_csi_call_duration_seconds_count{code="OK",method="/csi.v1.Controller/CreateVolume"}`,
	} {
		if text := host.Get(t, address, "/metrics"); !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s:\n%s", want, text)
		}
	}
	if text := host.Get(t, address, "/healthz"); text != "ok\n" {
		t.Errorf("health: %s", text)
	}
	// Calls for a pool without bricks fail, before the deadline of their callers.
	bricks.Stop(c.Bricks[0])
	if _, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{}); err == nil ||
		status.Code(err) == codes.DeadlineExceeded {
		t.Errorf("without the brick: %v", err)
	}
	c.StartBrick(0)
	c.Eventually("the volumes are listed again", func() bool {
		listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
		return err == nil && len(listed.GetEntries()) == 2
	})
}

// TestPodRestarted kills the client of a node's pool under two pods. The health of their volume says
// so, and a restarted pod has the volume again although the kubelet does not stage it again.
func TestPodRestarted(t *testing.T) {
	t.Parallel()
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
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	n := csi.NewNodeClient(plugin)
	c.Eventually("the volume's health is NoAnswer", func() bool {
		health, err := n.NodeGetVolumeHealth(ctx,
			&csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: target})
		if err != nil {
			t.Fatal(err)
		}
		s := health.GetVolumeHealth().GetHealthStatuses()
		return len(s) == 1 && s[0].GetReason() == "NoAnswer"
	})
	for _, path := range []string{h.Path("kubelet/other"), target} { // a new pod, and the first pod's path
		h.Publish(n, id, h.Path("kubelet/staging"), path, false)
		if text, err := os.ReadFile(filepath.Join(path, "file")); err != nil || string(text) != "text" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
	for _, path := range []string{h.Path("kubelet/other"), target} {
		h.Unpublish(n, id, path)
	}
}
