// Package testbed is for tests of the CSI services: pools that are plain directories of this
// machine, which have the same attributes and mounts as real ones, and calls through the
// interceptor, as the server does them. Real pools are in tests/sanity.
package testbed

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// Mounts is a pool.Mounter of plain directories.
type Mounts struct {
	Dir  string           // has a directory for each pool
	Err  error            // returned for every pool
	Down map[string]error // returned for a pool
	Hold chan struct{}    // if not nil, all calls but the first wait until it is closed
	held atomic.Bool
}

// Root implements pool.Mounter.
func (m *Mounts) Root(_ context.Context, p catalog.Pool, _ schema.Layout) (string, error) {
	if err := cmp.Or(m.Err, m.Down[p.Pool]); err != nil {
		return "", err
	}
	if m.Hold != nil && m.held.Swap(true) {
		<-m.Hold
	}
	dir := filepath.Join(m.Dir, p.Pool)
	return dir, os.MkdirAll(dir, 0o700)
}

// Bed is what services need, on plain directories.
type Bed struct {
	*testing.T
	Pools  pool.Opener
	Mounts *Mounts
	Locks  *rpc.Locks
	Log    logr.Logger

	interceptor *rpc.Interceptor
	mu          sync.Mutex
	lines       strings.Builder
}

// New returns a Bed with these pools in its catalog. It skips the test unless it runs as root.
func New(t *testing.T, pools ...entry.Entry) *Bed {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("records and mounts need root")
	}
	b := &Bed{T: t, Mounts: &Mounts{Dir: t.TempDir()}, Locks: &rpc.Locks{}}
	b.Pools = pool.Opener{Catalog: catalog.Folder{Dir: t.TempDir()}, Mounts: b.Mounts}
	b.Log = funcr.New(func(prefix, args string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.lines.WriteString(prefix + args + "\n")
	}, funcr.Options{Verbosity: 9})
	b.interceptor = rpc.NewInterceptor(b.Log, b.Locks)
	for _, e := range pools {
		b.addPool(e)
	}
	return b
}

func (b *Bed) addPool(e entry.Entry) {
	b.Helper()
	e.Namespace, e.Type, e.SetSize, e.Bricks = "n", schema.Replica1, 1, []entry.Brick{{Host: "h"}}
	if e.Reclaim == "" {
		e.Reclaim = schema.ReclaimDelete
	}
	if e.Layouts == nil {
		e.Layouts = []schema.Layout{schema.Subdirectory}
	}
	text, err := entry.Encode(e)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := b.Pools.Catalog.Write(e.Pool,
		map[string]string{entry.KeyEntry: string(text), entry.KeyFiles: "volume"}); err != nil {
		b.Fatal(err)
	}
}

// Logged returns what was logged.
func (b *Bed) Logged() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.String()
}

// Open opens a pool until the test ends.
func (b *Bed) Open(name string, layout schema.Layout) *pool.Handle {
	b.Helper()
	h, err := b.Pools.Open(b.Context(), name, layout)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { h.Close() })
	return h
}

// CreateVolume creates a volume without the controller service.
func (b *Bed) CreateVolume(pool, name string, layout schema.Layout) {
	b.Helper()
	_, err := b.Open(pool, layout).Backend.Create(b.Context(), backend.CreateRequest{
		Request: name, Name: name, Size: 1 << 20, Reclaim: schema.ReclaimDelete, Overcommit: 1,
	})
	if err != nil {
		b.Fatal(err)
	}
}

// Call sends a request through the interceptor, as the server does.
func Call[Q, R any](
	b *Bed, method func(context.Context, Q) (R, error), request Q,
) (response R, code codes.Code, message string) {
	answer, err := b.interceptor.Intercept(context.Background(), request, &grpc.UnaryServerInfo{FullMethod: "/test"},
		func(ctx context.Context, r any) (any, error) {
			return method(ctx, r.(Q))
		})
	response, _ = answer.(R)
	return response, status.Code(err), fmt.Sprint(err)
}

// MustCall is Call for what must succeed.
func MustCall[Q, R any](b *Bed, method func(context.Context, Q) (R, error), request Q) R {
	b.Helper()
	response, code, message := Call(b, method, request)
	if code != codes.OK {
		b.Fatalf("%T: %s", request, message)
	}
	return response
}

// Access modes by the names that Kubernetes users know, or shorter.
const (
	ReadWriteMany    = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
	ReadOnlyMany     = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	ReadWriteOnce    = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	ReadWriteOncePod = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
)

// Mounted returns the capability of a volume with a file system.
func Mounted(mode csi.VolumeCapability_AccessMode_Mode, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{MountFlags: flags}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

// Raw returns the capability of a raw block volume.
func Raw(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}
