package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	csicatalog "github.com/atoll-storage/atoll/csi/catalog"
	csicontroller "github.com/atoll-storage/atoll/csi/controller"
	"github.com/atoll-storage/atoll/csi/driver"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
)

// controller starts the driver on real bricks and returns a client of it, its catalog, and the
// directory at which it has mounted the pool.
func controller(b *testing.B, kind schema.Type, count int) (csi.ControllerClient, csicatalog.Folder, string) {
	b.Helper()
	unix.Umask(0) // as the program does
	c := bricks.Start(b, kind, count, nil)
	folder := csicatalog.Folder{Dir: b.TempDir()}
	c.Catalog(folder, schema.Subdirectory)
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		b.Fatal(err)
	}
	clients, err := mounts.NewUncached(filepath.Join(dir, "mounts"), logr.Discard())
	if err != nil {
		b.Fatal(err)
	}
	d := driver.New(driver.Config{
		Version: "bench", Catalog: folder, Mounts: clients, Log: logr.Discard(),
		Controller: &csicontroller.Config{},
	})
	socket := filepath.Join(dir, "csi.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		_ = d.Serve(ctx, "unix://"+socket) // calls report what is wrong
		close(done)
	}()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		cancel()
		<-done
		clients.Close()
		os.RemoveAll(dir)
	})
	p, err := folder.Pool("p")
	if err != nil {
		b.Fatal(err)
	}
	root, err := clients.Root(ctx, p, schema.Subdirectory)
	if err != nil {
		b.Fatal(err)
	}
	return csi.NewControllerClient(conn), folder, root
}

var created atomic.Int64

func create(b *testing.B, c csi.ControllerClient) string {
	answer, err := c.CreateVolume(context.Background(), &csi.CreateVolumeRequest{
		Name: fmt.Sprintf("pvc-%08d", created.Add(1)), CapacityRange: &csi.CapacityRange{RequiredBytes: 1 << 10},
		Parameters:         map[string]string{"pool": "p", "overcommit": "100"},
		VolumeCapabilities: []*csi.VolumeCapability{host.AnyWriter()},
	})
	if err != nil {
		b.Error(err)
	}
	return answer.GetVolume().GetVolumeId()
}

// times calls f n times from some callers, and returns the sorted times of the calls, and the time
// of all together.
func times(callers, n int, f func(i int)) (each []time.Duration, total time.Duration) {
	var wait sync.WaitGroup
	var mu sync.Mutex
	var next atomic.Int64
	begin := time.Now()
	for range callers {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				begin := time.Now()
				f(i)
				took := time.Since(begin)
				mu.Lock()
				each = append(each, took)
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	slices.Sort(each)
	return each, time.Since(begin)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// samples is how many volumes are measured for a figure.
func samples() int { return pick(400, 20) }

// volumePool is a pool on which volumes are measured.
type volumePool struct {
	kind  schema.Type
	count int // of bricks
}

var (
	volumePools   = []volumePool{{schema.Replica1, 1}, {schema.Replica3, 3}}
	volumeCallers = []int{1, 16}
)

// existingVolumes are how many volumes a pool has before some more are measured.
func existingVolumes() []int { return pick([]int{0, 1000, 10000}, []int{0, 20}) }

// volumesBenchmark and restartBenchmark are the names of benchmarks.
func volumesBenchmark(pool volumePool, existing, callers int) string {
	return fmt.Sprintf("BenchmarkVolumes/%s/existing=%d/callers=%d", pool.kind, existing, callers)
}

func restartBenchmark(pool volumePool) string {
	return fmt.Sprintf("BenchmarkVolumes/%s/restart", pool.kind)
}

// BenchmarkVolumes creates and deletes volumes on pools that have some already. The floor is two
// mkdir on the same mount in the same run.
func BenchmarkVolumes(b *testing.B) {
	for _, pool := range volumePools {
		b.Run(string(pool.kind), func(b *testing.B) {
			client, catalog, root := controller(b, pool.kind, pool.count)
			have := 0
			for _, existing := range existingVolumes() {
				times(16, existing-have, func(int) { create(b, client) })
				have = existing
				for _, callers := range volumeCallers {
					b.Run(fmt.Sprintf("existing=%d/callers=%d", existing, callers), func(b *testing.B) {
						for b.Loop() {
							measure(b, client, root, callers)
						}
					})
				}
			}
			b.Run("restart", func(b *testing.B) {
				for b.Loop() {
					restart(b, catalog, root)
				}
			})
		})
	}
}

// measure creates and deletes volumes, beside the floor.
func measure(b *testing.B, client csi.ControllerClient, root string, callers int) {
	base, err := os.MkdirTemp(root, "floor-")
	if err != nil {
		b.Fatal(err)
	}
	floor, _ := times(callers, samples(), func(i int) {
		dir := filepath.Join(base, fmt.Sprint(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			b.Error(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "x"), 0o755); err != nil {
			b.Error(err)
		}
	})
	ids := make([]string, samples())
	creates, total := times(callers, samples(), func(i int) { ids[i] = create(b, client) })
	deletes, _ := times(callers, samples(), func(i int) {
		if _, err := client.DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: ids[i]}); err != nil {
			b.Error(err)
		}
	})
	p50 := func(d []time.Duration) time.Duration { return d[len(d)/2] }
	measured(b, milliseconds(p50(creates)), "create-p50-ms")
	measured(b, milliseconds(creates[len(creates)*99/100]), "create-p99-ms")
	measured(b, float64(samples())/total.Seconds(), "creates/s")
	measured(b, milliseconds(p50(deletes)), "delete-p50-ms")
	measured(b, milliseconds(p50(floor)), "floor-p50-ms")
	measured(b, float64(p50(creates))/float64(p50(floor)), "times-floor")
	b.ReportMetric(0, "ns/op")
	if err := os.RemoveAll(base); err != nil {
		b.Error(err)
	}
}
