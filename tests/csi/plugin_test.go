// Package csi runs the driver's own processes on real bricks and takes them away
// under a writer.
package csi

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	csicatalog "github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/bricks"
)

// host is a node of a cluster: folders, and the driver's processes.
type host struct {
	t       *testing.T
	dir     string
	program string
}

func newHost(t *testing.T, c *bricks.Cluster) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "host-") // sockets' paths are limited
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: dir, program: filepath.Join(dir, "atoll-csi")}
	t.Cleanup(func() {
		if err := bricks.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	if out, err := exec.Command("go", "build", "-o", h.program, "../../cmd/atoll-csi").CombinedOutput(); err != nil {
		t.Fatalf("building atoll-csi: %v\n%s", err, out)
	}
	for _, name := range []string{"kubelet/plugins_registry", "mounts"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.Catalog(csicatalog.Folder{Dir: h.path("catalog")}, schema.Subdirectory)
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// start runs a role of the driver until the test ends.
func (h *host) start(role string, args ...string) *exec.Cmd {
	h.t.Helper()
	log, err := os.OpenFile(h.path(role+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(h.program, append([]string{role, "--catalog", h.path("catalog"), "--mounts", h.path("mounts"), "-v1"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn.Start(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { bricks.Stop(cmd) })
	return cmd
}

func (h *host) startNode() *exec.Cmd {
	return h.start("node", "--endpoint", "unix://"+h.path("node.sock"), "--mounter", h.path("mounter.sock"), "--node-id", "host", "--kubelet-root", h.path("kubelet"))
}

// dial connects to a role's socket and waits until it answers.
func (h *host) dial(socket string) *grpc.ClientConn {
	h.t.Helper()
	conn, err := grpc.NewClient("unix://"+h.path(socket), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}}))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	h.probe(conn)
	return conn
}

func (h *host) probe(conn *grpc.ClientConn) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}); err != nil {
		h.t.Fatalf("the driver does not answer: %v\n%s", err, h.logs())
	}
}

func (h *host) logs() string {
	var b strings.Builder
	all, _ := filepath.Glob(h.path("*.log"))
	for _, l := range all {
		text, _ := os.ReadFile(l)
		fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(l), text[max(0, len(text)-2000):])
	}
	return b.String()
}

// anyWriter is the capability of a volume that many pods write.
func anyWriter() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
	}
}

// create makes a volume of 10 MiB.
func (h *host) create(controller *grpc.ClientConn) (id string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	made, err := csi.NewControllerClient(controller).CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{anyWriter()}, CapacityRange: &csi.CapacityRange{RequiredBytes: 10 << 20}, Parameters: map[string]string{"pool": "p"},
	})
	if err != nil {
		h.t.Fatalf("creating: %v\n%s", err, h.logs())
	}
	return made.GetVolume().GetVolumeId()
}

func (h *host) stage(n csi.NodeClient, id, staging string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging, VolumeCapability: anyWriter()}); err != nil {
		h.t.Fatalf("staging: %v\n%s", err, h.logs())
	}
}

// volume makes a volume and brings it to a pod's path.
func (h *host) volume(controller, node *grpc.ClientConn) (id, target string) {
	h.t.Helper()
	n := csi.NewNodeClient(node)
	id = h.create(controller)
	staging, target := h.path("kubelet/staging"), h.path("kubelet/pod")
	h.stage(n, id, staging)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: staging, TargetPath: target, VolumeCapability: anyWriter()}); err != nil {
		h.t.Fatalf("publishing: %v\n%s", err, h.logs())
	}
	return id, target
}

// writer appends lines to a file until it is stopped, and knows how long the
// longest took.
type writer struct {
	stop    atomic.Bool
	done    chan error
	lines   int
	longest time.Duration
}

func startWriter(path string) *writer {
	w := &writer{done: make(chan error, 1)}
	go func() { w.done <- w.run(path) }()
	return w
}

func (w *writer) run(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for !w.stop.Load() {
		begin := time.Now()
		if _, err := fmt.Fprintf(f, "line %d\n", w.lines); err != nil {
			return err
		}
		if err := f.Sync(); err != nil {
			return err
		}
		w.lines++
		w.longest = max(w.longest, time.Since(begin))
	}
	return f.Close()
}

// TestPluginDies kills the node plugin fifty times under a writer: no error, no
// stall, no lost line.
func TestPluginDies(t *testing.T) {
	c := bricks.Start(t, schema.Replica3, 3, nil)
	h := newHost(t, c)
	h.start("mounter", "--socket", h.path("mounter.sock"))
	h.start("controller", "--endpoint", "unix://"+h.path("controller.sock"), "--mounts", h.path("controller-mounts"))
	node := h.startNode()
	controller, plugin := h.dial("controller.sock"), h.dial("node.sock")
	id, target := h.volume(controller, plugin)
	w := startWriter(filepath.Join(target, "lines"))
	const kills = 50
	for range kills {
		bricks.Stop(node) // SIGKILL
		node = h.startNode()
		h.probe(h.dial("node.sock"))
	}
	w.stop.Store(true)
	if err := <-w.done; err != nil {
		t.Fatalf("the writer: %v\n%s", err, h.logs())
	}
	text, err := os.ReadFile(filepath.Join(target, "lines"))
	if err != nil || strings.Count(string(text), "\n") != w.lines || w.lines < kills {
		t.Errorf("%d lines of %d, %v", strings.Count(string(text), "\n"), w.lines, err)
	}
	t.Logf("%d kills, %d synced lines, the longest took %s", kills, w.lines, w.longest)
	if w.longest > 2*time.Second {
		t.Errorf("a write stalled for %s", w.longest)
	}
	// The plugin that is there now takes away what another one has mounted.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n := csi.NewNodeClient(h.dial("node.sock"))
	if _, err := n.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: target}); err != nil {
		t.Error(err)
	}
	if _, err := n.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: h.path("kubelet/staging")}); err != nil {
		t.Error(err)
	}
}

// TestVolumesCommand keeps a deleted volume, restores it and purges it from the
// command line, on a real pool.
func TestVolumesCommand(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := newHost(t, c)
	program := h.path("atoll")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/atoll").CombinedOutput(); err != nil {
		t.Fatalf("building atoll: %v\n%s", err, out)
	}
	atoll := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(program, append([]string{"volumes", "--catalog", h.path("catalog")}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("atoll volumes %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	h.start("mounter", "--socket", h.path("mounter.sock"))
	h.startNode()
	h.start("controller", "--endpoint", "unix://"+h.path("controller.sock"), "--mounts", h.path("controller-mounts"))
	controller := h.dial("controller.sock")
	id, target := h.volume(controller, h.dial("node.sock"))
	if err := os.WriteFile(filepath.Join(target, "file"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	atoll("archive", "p", "pvc-1")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := csi.NewControllerClient(controller).DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
	var listed struct {
		Volumes  []any
		Archived []struct{ Place string }
	}
	if err := json.Unmarshal([]byte(atoll("list", "p", "-o", "json")), &listed); err != nil || len(listed.Volumes) != 0 || len(listed.Archived) != 1 {
		t.Fatalf("listed %+v, %v", listed, err)
	}
	atoll("restore", "p", listed.Archived[0].Place)
	if out := atoll("list", "p"); !strings.Contains(out, "10485760  Archive") {
		t.Errorf("restored:\n%s", out)
	}
	if _, err := csi.NewControllerClient(controller).DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(atoll("list", "p", "-o", "json")), &listed); err != nil || len(listed.Archived) != 1 {
		t.Fatalf("listed %+v, %v", listed, err)
	}
	atoll("purge", "p", listed.Archived[0].Place)
	if out := atoll("list", "p"); strings.Contains(out, "pvc-1") {
		t.Errorf("purged:\n%s", out)
	}
}

// TestControllerDies kills the controller and holds that another one goes on with
// what is on the pool.
func TestControllerDies(t *testing.T) {
	c := bricks.Start(t, schema.Replica1, 1, nil)
	h := newHost(t, c)
	arguments := []string{"--endpoint", "unix://" + h.path("controller.sock"), "--mounts", h.path("controller-mounts")}
	h.start("mounter", "--socket", h.path("mounter.sock"))
	h.startNode()
	controller := h.start("controller", arguments...)
	id, _ := h.volume(h.dial("controller.sock"), h.dial("node.sock"))
	bricks.Stop(controller)
	h.start("controller", arguments...)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := csi.NewControllerClient(h.dial("controller.sock"))
	listed, err := client.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil || len(listed.GetEntries()) != 1 || listed.GetEntries()[0].GetVolume().GetVolumeId() != id {
		t.Fatalf("listed %v, %v\n%s", listed, err, h.logs())
	}
	if _, err := client.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); err != nil {
		t.Error(err)
	}
	for trash := filepath.Join(c.Pool.Bricks[0].Directory, ".atoll/trash"); ; time.Sleep(50 * time.Millisecond) {
		if left, err := os.ReadDir(trash); err == nil && len(left) == 0 {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("the trash is not emptied\n%s", h.logs())
		}
	}
}
