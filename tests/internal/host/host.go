// Package host runs the driver's processes for tests as on a node of a cluster: with the node's
// directories, the kubelet's files, and containers that mount volumes.
package host

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/linux/spawn"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/programs"
)

// Host is a node of a cluster: its directories, and the driver's processes.
type Host struct {
	t       *testing.T
	dir     string
	program string
	// Network is the path of the network namespace in which roles start; "" is that of the test.
	Network string
	// Roles are the processes by role, of each the last that was started.
	Roles map[string]*exec.Cmd
}

// New creates a node whose catalog has a pool.
func New(t *testing.T, c *bricks.Cluster) *Host {
	t.Helper()
	h := Bare(t)
	c.Catalog(h.Catalog(), schema.Subdirectory)
	return h
}

// Bare creates a node with an empty catalog.
func Bare(t *testing.T) *Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "host-") // short: paths of sockets have at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{t: t, dir: dir, program: filepath.Join(dir, "atoll-csi"), Roles: map[string]*exec.Cmd{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.Logs())
		}
		if err := bricks.UnmountBelow(dir); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	h.Build("atoll-csi")
	for _, name := range []string{"kubelet/plugins_registry", "mounts"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// Build links one of the project's programs into the host's directory and returns its path.
func (h *Host) Build(command string) string {
	h.t.Helper()
	path, err := programs.Link(command, h.dir)
	if err != nil {
		h.t.Fatal(err)
	}
	return path
}

// Catalog is the directory with the host's pools.
func (h *Host) Catalog() catalog.Folder { return catalog.Folder{Dir: h.Path("catalog")} }

// Path is the path of a file or directory of the host.
func (h *Host) Path(name string) string { return filepath.Join(h.dir, name) }

// Start runs a role of the driver until the test ends.
func (h *Host) Start(role string, args ...string) *exec.Cmd {
	h.t.Helper()
	log, err := os.OpenFile(h.Path(role+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	command := append([]string{h.program, role, "--catalog", h.Path("catalog"), "--mounts", h.Path("mounts"), "-v1"},
		args...)
	if h.Network != "" {
		command = append([]string{"nsenter", "--net=" + h.Network}, command...)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := spawn.Start(cmd); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { bricks.Stop(cmd) })
	h.Roles[role] = cmd
	return cmd
}

// StartNode starts the node role, with more arguments.
func (h *Host) StartNode(more ...string) *exec.Cmd {
	h.t.Helper()
	return h.Start("node", append(more, "--endpoint", "unix://"+h.Path("node.sock"), "--mounter",
		h.Path("mounter.sock"), "--node-id", "host", "--kubelet-root", h.Path("kubelet"))...)
}

// Dial connects to a role's socket and waits until the role answers.
func (h *Host) Dial(socket string) *grpc.ClientConn {
	h.t.Helper()
	conn, err := grpc.NewClient("unix://"+h.Path(socket), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{
			BaseDelay:  10 * time.Millisecond,
			Multiplier: 1, MaxDelay: 10 * time.Millisecond,
		}}))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	h.Probe(conn)
	return conn
}

// Probe waits until a role answers.
func (h *Host) Probe(conn *grpc.ClientConn) {
	h.t.Helper()
	h.call("probe", func(ctx context.Context) error {
		_, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
		return err
	})
}

// call calls the driver as kubelet and sidecars do. The call must succeed in the end.
func (h *Host) call(what string, call func(context.Context) error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Limit)
	defer cancel()
	if err := await.Call(ctx, call); err != nil {
		h.t.Fatalf("%s: %v\n%s", what, err, h.Logs())
	}
}

// Logs returns the ends of all logs.
func (h *Host) Logs() string {
	var b strings.Builder
	all, _ := filepath.Glob(h.Path("*.log"))
	for _, l := range all {
		text, _ := os.ReadFile(l)
		fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(l), text[max(0, len(text)-6000):])
	}
	return b.String()
}

// AnyWriter is the capability of a volume that many pods may write.
func AnyWriter() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
	}
}

// Create creates the volume pvc-1 of 10 MiB.
func (h *Host) Create(controller *grpc.ClientConn) (id string) {
	h.t.Helper()
	h.call("create a volume", func(ctx context.Context) error {
		created, err := csi.NewControllerClient(controller).CreateVolume(ctx, &csi.CreateVolumeRequest{
			Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{AnyWriter()},
			CapacityRange: &csi.CapacityRange{RequiredBytes: 10 << 20}, Parameters: map[string]string{"pool": "p"},
		})
		id = created.GetVolume().GetVolumeId()
		return err
	})
	return id
}

// Stage stages a volume.
func (h *Host) Stage(n csi.NodeClient, id, staging string) {
	h.t.Helper()
	h.call("stage", func(ctx context.Context) error {
		_, err := n.NodeStageVolume(ctx,
			&csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging, VolumeCapability: AnyWriter()})
		return err
	})
}

// Publish publishes a staged volume at a pod's path.
func (h *Host) Publish(n csi.NodeClient, id, staging, target string, readonly bool) {
	h.t.Helper()
	h.call("publish", func(ctx context.Context) error {
		_, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
			VolumeId: id, StagingTargetPath: staging, TargetPath: target, VolumeCapability: AnyWriter(),
			Readonly: readonly,
		})
		return err
	})
}

// Volume creates a volume, and stages and publishes it.
func (h *Host) Volume(controller, node *grpc.ClientConn) (id, target string) {
	h.t.Helper()
	n := csi.NewNodeClient(node)
	id = h.Create(controller)
	staging, target := h.Path("kubelet/staging"), h.Path("kubelet/pod")
	h.Stage(n, id, staging)
	h.Publish(n, id, staging, target, false)
	return id, target
}

// Clients lists the processes of glusterfs that mount below a directory.
func Clients(t *testing.T, dir string) []int {
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
