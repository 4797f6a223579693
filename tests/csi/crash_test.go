package csi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// tenant creates, expands and deletes volumes of some names. It repeats every call until it
// succeeds, as the sidecars do, and so knows what exists.
type tenant struct {
	t           *testing.T
	controllers []csi.ControllerClient
	random      *rand.Rand
	sizes       map[string]int64 // of existing volumes
}

// until repeats a call, each time to a random controller, until it succeeds.
func (o *tenant) until(ctx context.Context, call func(context.Context, csi.ControllerClient) error) {
	for {
		c := o.controllers[o.random.IntN(len(o.controllers))]
		limited, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := call(limited, c)
		cancel()
		switch code := status.Code(err); code {
		case codes.OK:
			return
		case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
			time.Sleep(5 * time.Millisecond)
		default:
			o.t.Errorf("a repeated call: %v", err)
			return
		}
		if ctx.Err() != nil {
			o.t.Errorf("a repeated call never succeeded: %v", err)
			return
		}
	}
}

func (o *tenant) work(ctx context.Context, name string) {
	id := "v1.dir.p." + name
	size, exists := o.sizes[name]
	switch {
	case !exists:
		size = int64(1+o.random.IntN(4)) << 20
		o.until(ctx, func(ctx context.Context, c csi.ControllerClient) error {
			_, err := c.CreateVolume(ctx, &csi.CreateVolumeRequest{
				Name: name, Parameters: map[string]string{"pool": "p", "overcommit": "100"},
				CapacityRange:      &csi.CapacityRange{RequiredBytes: size},
				VolumeCapabilities: []*csi.VolumeCapability{host.AnyWriter()},
			})
			return err
		})
		o.sizes[name] = size
	case o.random.IntN(3) == 0:
		o.until(ctx, func(ctx context.Context, c csi.ControllerClient) error {
			_, err := c.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{
				VolumeId:      id,
				CapacityRange: &csi.CapacityRange{RequiredBytes: size + 1<<20},
			})
			return err
		})
		o.sizes[name] = size + 1<<20
	default:
		o.until(ctx, func(ctx context.Context, c csi.ControllerClient) error {
			_, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
			return err
		})
		delete(o.sizes, name)
	}
}

// TestTwoControllersKilled runs two controllers on one pool, as happens when a lease is lost, and
// kills them in turn under tenants. In the end both list exactly the tenants' volumes with their
// sizes, and the brick has exactly their directories.
func TestTwoControllersKilled(t *testing.T) {
	t.Parallel()
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	arguments := func(i int) []string {
		return []string{
			"--endpoint", fmt.Sprintf("unix://%s", h.Path(fmt.Sprintf("c%d.sock", i))), "--mounts",
			h.Path(fmt.Sprintf("mounts-%d", i)),
		}
	}
	var processes [2]*exec.Cmd
	var clients []csi.ControllerClient
	for i := range processes {
		processes[i] = h.Start("controller", arguments(i)...)
		clients = append(clients, csi.NewControllerClient(h.Dial(fmt.Sprintf("c%d.sock", i))))
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	const tenants, names, operations, operationsPerKill = 8, 5, 40, 8
	all := make([]*tenant, tenants)
	var wait sync.WaitGroup
	var worked atomic.Int64 // operations
	for i := range all {
		all[i] = &tenant{
			t: t, controllers: clients, random: rand.New(rand.NewPCG(7, uint64(i))),
			sizes: map[string]int64{},
		}
		wait.Go(func() {
			for range operations {
				all[i].work(ctx, fmt.Sprintf("t%d-%d", i, all[i].random.IntN(names)))
				worked.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() {
		wait.Wait()
		close(finished)
	}()
	kills := 0
	for before, done := int64(0), false; !done; {
		select {
		case <-finished:
			done = true
		case <-time.After(time.Millisecond):
			if worked.Load() < before+operationsPerKill {
				continue
			}
			before = worked.Load()
			i := kills % 2
			bricks.Stop(processes[i]) // SIGKILL
			processes[i] = h.Start("controller", arguments(i)...)
			kills++
		}
	}
	want := map[string]int64{}
	for _, o := range all {
		for name, size := range o.sizes {
			want["v1.dir.p."+name] = size
		}
	}
	t.Logf("%d operations, %d kills, %d volumes left", tenants*operations, kills, len(want))
	agree(ctx, t, clients, want)
	dirs, err := filepath.Glob(filepath.Join(c.Pool.Bricks[0].Directory, "subvol/*/*/*"))
	if err != nil || len(dirs) != len(want) {
		t.Errorf("%d directories on the brick, want %d: %v", len(dirs), len(want), err)
	}
}

// agree checks that every controller lists exactly these volumes, by ID and size.
func agree(ctx context.Context, t *testing.T, clients []csi.ControllerClient, want map[string]int64) {
	t.Helper()
	for i, client := range clients {
		listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
		if err != nil || len(listed.GetEntries()) != len(want) {
			t.Errorf("controller %d lists %d volumes, want %d: %v", i, len(listed.GetEntries()), len(want), err)
		}
		for _, e := range listed.GetEntries() {
			if v := e.GetVolume(); v.GetCapacityBytes() != want[v.GetVolumeId()] {
				t.Errorf("controller %d: %s has %d bytes, want %d", i, v.GetVolumeId(), v.GetCapacityBytes(),
					want[v.GetVolumeId()])
			}
		}
	}
}
