package uml

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atoll-storage/atoll/brick/quota"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/driver"
	"github.com/atoll-storage/atoll/csi/mounts"
	limiter "github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/bricks"
)

// here limits volumes of pools whose bricks are folders of this machine.
type here struct{}

func (here) Limit(_ context.Context, p catalog.Pool, folder string, bytes int64) (limiter.Mode, error) {
	for _, b := range p.Bricks {
		brick, err := quota.Open(b.Directory)
		if err != nil {
			return "", err
		}
		err = brick.Limit(folder, uint64(bytes))
		brick.Close()
		if err != nil {
			return "", err
		}
	}
	return limiter.ModeEnforced, nil
}

// TestVolumeQuota makes a volume on three replicas, writes it full, makes it larger
// and writes it full again, all through the driver and a mount.
func TestVolumeQuota(t *testing.T) {
	disks, isInside := Run(t, 512*mib, 512*mib, 512*mib)
	if !isInside {
		return
	}
	c := bricks.Start(t, schema.Replica3, 3, func(p *volfile.Pool) {
		for i := range p.Bricks {
			p.Bricks[i].Directory = filepath.Join(xfs(t, disks[i], "prjquota"), "brick")
		}
	})
	dir := t.TempDir()
	pools := catalog.Folder{Dir: filepath.Join(dir, "catalog")}
	c.Catalog(pools, schema.Subdirectory)
	clients, err := mounts.New(filepath.Join(dir, "mounts"), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	d := &driver.Driver{Catalog: pools, Mounts: clients, Log: logr.Discard(), Controller: true, Quota: here{}}
	served := make(chan error, 1)
	serving, stop := context.WithCancel(ctx)
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	socket := "unix://" + filepath.Join(dir, "csi.sock")
	go func() { served <- d.Serve(serving, socket) }()
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lifeOfAVolume(ctx, t, csi.NewControllerClient(conn), c.Mount("tenant", volfile.Client))
}

func lifeOfAVolume(ctx context.Context, t *testing.T, client csi.ControllerClient, mounted string) {
	t.Helper()
	made, err := client.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: "v", Parameters: map[string]string{"pool": "p"}, CapacityRange: &csi.CapacityRange{RequiredBytes: 16 * mib},
		VolumeCapabilities: []*csi.VolumeCapability{{
			AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
			AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	volume := made.GetVolume()
	if mode := volume.GetVolumeContext()[limiter.ContextKey]; mode != string(limiter.ModeEnforced) {
		t.Errorf("the volume says its quota is %q", mode)
	}
	found, err := filepath.Glob(filepath.Join(mounted, "subvol/*/*/*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("volumes on the pool: %v, %v", found, err)
	}
	shows(t, found[0], 16*mib)
	full(t, found[0], 16*mib)
	if _, err := client.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
		VolumeId: volume.GetVolumeId(), CapacityRange: &csi.CapacityRange{RequiredBytes: 24 * mib},
	}); err != nil {
		t.Fatal(err)
	}
	shows(t, found[0], 24*mib)
	full(t, found[0], 24*mib)
	if _, err := client.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: volume.GetVolumeId()}); err != nil {
		t.Fatal(err)
	}
	// What is beside a volume is not in its project.
	if _, err := fill(filepath.Join(mounted, "outside"), 64*mib); err != nil {
		t.Error(fmt.Errorf("beside the volume: %w", err))
	}
}
