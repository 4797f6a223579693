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
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// tenant owns some names and knows what became of each: it repeats every call
// until it is answered, as the sidecars do.
type tenant struct {
	t           *testing.T
	controllers []csi.ControllerClient
	random      *rand.Rand
	sizes       map[string]int64 // of the volumes that are there
}

// until repeats a call, each time to either controller, until it succeeds.
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
			o.t.Errorf("a call that was repeated ends with %v", err)
			return
		}
		if ctx.Err() != nil {
			o.t.Errorf("no answer: %v", err)
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
				Name: name, Parameters: map[string]string{"pool": "p", "overcommit": "100"}, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
				VolumeCapabilities: []*csi.VolumeCapability{host.AnyWriter()},
			})
			return err
		})
		o.sizes[name] = size
	case o.random.IntN(3) == 0:
		o.until(ctx, func(ctx context.Context, c csi.ControllerClient) error {
			_, err := c.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: size + 1<<20}})
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

// TestTwoControllersKilled runs two controllers on one pool, which must not happen
// and does when a lease is lost, and kills one or the other again and again under
// tenants. In the end both list exactly the volumes that the tenants have, with
// their sizes, and so do the folders on the brick.
func TestTwoControllersKilled(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := host.New(t, c)
	arguments := func(i int) []string {
		return []string{"--endpoint", fmt.Sprintf("unix://%s", h.Path(fmt.Sprintf("c%d.sock", i))), "--mounts", h.Path(fmt.Sprintf("mounts-%d", i))}
	}
	var processes [2]*exec.Cmd
	var clients []csi.ControllerClient
	for i := range processes {
		processes[i] = h.Start("controller", arguments(i)...)
		clients = append(clients, csi.NewControllerClient(h.Dial(fmt.Sprintf("c%d.sock", i))))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	const tenants, names, operations = 8, 5, 40
	all := make([]*tenant, tenants)
	var wait sync.WaitGroup
	var worked atomic.Int64 // operations
	for i := range all {
		all[i] = &tenant{t: t, controllers: clients, random: rand.New(rand.NewPCG(7, uint64(i))), sizes: map[string]int64{}}
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
	kills, before := 0, int64(0)
	for done, quiet := false, 0; !done; quiet++ {
		select {
		case <-finished:
			done = true
		case <-time.After(150 * time.Millisecond):
			// On a busy machine a controller takes longer to start than that: without some
			// work between the kills, there is nothing to be cut off.
			if now := worked.Load(); now == before && quiet < 20 {
				continue
			}
			before, quiet = worked.Load(), 0
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
	if kills < 5 {
		t.Error("too few kills to prove anything")
	}
	agree(ctx, t, clients, want)
	folders, err := filepath.Glob(filepath.Join(c.Pool.Bricks[0].Directory, "subvol/*/*/*"))
	if err != nil || len(folders) != len(want) {
		t.Errorf("%d folders on the brick, want %d: %v", len(folders), len(want), err)
	}
}

// agree holds that every controller lists exactly these volumes, by ID and size.
func agree(ctx context.Context, t *testing.T, clients []csi.ControllerClient, want map[string]int64) {
	t.Helper()
	for i, client := range clients {
		listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
		if err != nil || len(listed.GetEntries()) != len(want) {
			t.Errorf("controller %d lists %d volumes, want %d: %v", i, len(listed.GetEntries()), len(want), err)
		}
		for _, e := range listed.GetEntries() {
			if v := e.GetVolume(); v.GetCapacityBytes() != want[v.GetVolumeId()] {
				t.Errorf("controller %d: %s has %d bytes, want %d", i, v.GetVolumeId(), v.GetCapacityBytes(), want[v.GetVolumeId()])
			}
		}
	}
}
