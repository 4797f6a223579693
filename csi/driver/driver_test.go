package driver

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
	"github.com/go-logr/logr/funcr"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// folders stands for mounted pools: plain folders of this machine, which take the
// same attributes and mounts. Real pools are in tests/sanity.
type folders struct {
	dir  string
	err  error            // that Root gives
	down map[string]error // that Root gives for a pool
	hold chan struct{}    // if not nil, Root waits for it but for the first call
	held atomic.Bool
}

func (f *folders) Root(_ context.Context, p catalog.Pool, _ schema.Layout) (string, error) {
	if err := cmp.Or(f.err, f.down[p.Pool]); err != nil {
		return "", err
	}
	if f.hold != nil && f.held.Swap(true) {
		<-f.hold
	}
	dir := filepath.Join(f.dir, p.Pool)
	return dir, os.MkdirAll(dir, 0o700)
}

// bed is a driver on plain folders.
type bed struct {
	t          *testing.T
	d          *Driver
	pools      *folders
	controller *controller
	node       *node
	log        *strings.Builder
	mu         sync.Mutex
}

func newBed(t *testing.T, pools ...entry.Entry) *bed {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("records and mounts need root")
	}
	b := &bed{t: t, pools: &folders{dir: t.TempDir()}, log: &strings.Builder{}}
	b.d = &Driver{
		Version: "test", NodeID: "node", KubeletRoot: t.TempDir(), Catalog: catalog.Folder{Dir: t.TempDir()}, Mounts: b.pools,
		Log: funcr.New(func(prefix, args string) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.log.WriteString(prefix + args + "\n")
		}, funcr.Options{Verbosity: 9}),
	}
	for _, e := range pools {
		b.pool(e)
	}
	b.controller, b.node = newController(b.d), &node{d: b.d}
	t.Cleanup(b.unmount)
	return b
}

func (b *bed) pool(e entry.Entry) {
	b.t.Helper()
	e.Namespace, e.Type, e.SetSize, e.Bricks = "n", schema.Replica1, 1, []entry.Brick{{Host: "h"}}
	if e.Reclaim == "" {
		e.Reclaim = schema.ReclaimDelete
	}
	if e.Layouts == nil {
		e.Layouts = []schema.Layout{schema.Subdirectory}
	}
	text, err := entry.Encode(e)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.d.Catalog.Write(e.Pool, map[string]string{entry.KeyEntry: string(text), entry.KeyFiles: "volume"}); err != nil {
		b.t.Fatal(err)
	}
}

// unmount leaves nothing below the kubelet's root.
func (b *bed) unmount() {
	_ = filepath.WalkDir(b.d.KubeletRoot, func(path string, d os.DirEntry, err error) error {
		for err == nil && d.IsDir() && path != b.d.KubeletRoot && unix.Unmount(path, unix.MNT_DETACH) == nil {
			continue
		}
		return nil
	})
}

var ctx = context.Background()

// call sends a request through the interceptor, as the server does.
func call[Q, A any](b *bed, method func(context.Context, Q) (A, error), request Q) (A, codes.Code, string) {
	answer, err := b.d.intercept(ctx, request, &grpc.UnaryServerInfo{FullMethod: "/test"}, func(ctx context.Context, r any) (any, error) { return method(ctx, r.(Q)) })
	typed, _ := answer.(A)
	return typed, status.Code(err), fmt.Sprint(err)
}

// answered is call for what must succeed.
func answered[Q, A any](b *bed, method func(context.Context, Q) (A, error), request Q) A {
	b.t.Helper()
	answer, code, message := call(b, method, request)
	if code != codes.OK {
		b.t.Fatalf("%T: %s", request, message)
	}
	return answer
}

func capability(mode csi.VolumeCapability_AccessMode_Mode, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{MountFlags: flags}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

const anyWriter = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER

func createRequest(name string, size int64, parameters map[string]string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: size}, Parameters: parameters,
		VolumeCapabilities: []*csi.VolumeCapability{capability(anyWriter)},
	}
}

func (b *bed) create(name string, size int64, parameters map[string]string) string {
	b.t.Helper()
	return answered(b, b.controller.CreateVolume, createRequest(name, size, parameters)).GetVolume().GetVolumeId()
}

func (b *bed) stage(id string) string {
	b.t.Helper()
	path := filepath.Join(b.d.KubeletRoot, "staging", id)
	answered(b, b.node.NodeStageVolume, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: path, VolumeCapability: capability(anyWriter)})
	return path
}

func (b *bed) publish(id, pod string, c *csi.VolumeCapability, readonly bool) (path string, code codes.Code, message string) {
	path = filepath.Join(b.d.KubeletRoot, "pods", pod, "mount")
	_, code, message = call(b, b.node.NodePublishVolume, &csi.NodePublishVolumeRequest{
		VolumeId: id, StagingTargetPath: filepath.Join(b.d.KubeletRoot, "staging", id), TargetPath: path, VolumeCapability: c, Readonly: readonly,
	})
	return path, code, message
}
