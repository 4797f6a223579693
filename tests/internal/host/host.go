// Package host runs the driver's processes as a node of a cluster has them, for
// tests: with its folders, a kubelet's files, and containers that have volumes.
package host

import (
	"context"
	"errors"
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
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// Host is a node of a cluster: folders, and the driver's processes.
type Host struct {
	t       *testing.T
	dir     string
	program string
	// Network is the namespace that roles are started in; "" is the machine's.
	Network string
}

// New makes a node on which a pool is known.
func New(t *testing.T, c *bricks.Cluster) *Host {
	t.Helper()
	h := Bare(t)
	c.Catalog(h.Catalog(), schema.Subdirectory)
	return h
}

// Bare makes a node that knows no pool.
func Bare(t *testing.T) *Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "host-") // sockets' paths are limited
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{t: t, dir: dir, program: filepath.Join(dir, "atoll-csi")}
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

// Build builds one of the project's commands, and gives the program's path. It is built in
// one place for all tests, and linked again only when it has changed.
func (h *Host) Build(command string) string {
	h.t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/atoll-storage/atoll").Output()
	if err != nil {
		h.t.Fatalf("finding the project: %v", err)
	}
	project := strings.TrimSpace(string(root))
	built := filepath.Join(project, ".cache/test", command)
	if out, err := exec.Command("go", "build", "-C", project, "-o", built, "./cmd/"+command).CombinedOutput(); err != nil {
		h.t.Fatalf("building %s: %v\n%s", command, err, out)
	}
	text, err := os.ReadFile(built)
	if err != nil {
		h.t.Fatal(err)
	}
	program := h.Path(command)
	fresh := program + ".new" // the former may be running
	if err := errors.Join(os.WriteFile(fresh, text, 0o755), os.Rename(fresh, program)); err != nil {
		h.t.Fatal(err)
	}
	return program
}

// Catalog is the folder with the host's pools.
func (h *Host) Catalog() catalog.Folder { return catalog.Folder{Dir: h.Path("catalog")} }

// Path is that of a file or folder of the host.
func (h *Host) Path(name string) string { return filepath.Join(h.dir, name) }

// Start runs a role of the driver until the test ends.
func (h *Host) Start(role string, args ...string) *exec.Cmd {
	h.t.Helper()
	log, err := os.OpenFile(h.Path(role+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	command := append([]string{h.program, role, "--catalog", h.Path("catalog"), "--mounts", h.Path("mounts"), "-v1"}, args...)
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
	return cmd
}

// StartNode starts the node role with more arguments.
func (h *Host) StartNode(more ...string) *exec.Cmd {
	h.t.Helper()
	return h.Start("node", append(more, "--endpoint", "unix://"+h.Path("node.sock"), "--mounter", h.Path("mounter.sock"), "--node-id", "host", "--kubelet-root", h.Path("kubelet"))...)
}

// Dial connects to a role's socket and waits until it answers.
func (h *Host) Dial(socket string) *grpc.ClientConn {
	h.t.Helper()
	conn, err := grpc.NewClient("unix://"+h.Path(socket), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1, MaxDelay: 10 * time.Millisecond}}))
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
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{}); err != nil {
		h.t.Fatalf("the driver does not answer: %v\n%s", err, h.Logs())
	}
}

// Logs are the ends of all logs.
func (h *Host) Logs() string {
	var b strings.Builder
	all, _ := filepath.Glob(h.Path("*.log"))
	for _, l := range all {
		text, _ := os.ReadFile(l)
		fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(l), text[max(0, len(text)-6000):])
	}
	return b.String()
}

// AnyWriter is the capability of a volume that many pods write.
func AnyWriter() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER},
	}
}

// Create makes a volume of 10 MiB.
func (h *Host) Create(controller *grpc.ClientConn) (id string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	made, err := csi.NewControllerClient(controller).CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{AnyWriter()}, CapacityRange: &csi.CapacityRange{RequiredBytes: 10 << 20}, Parameters: map[string]string{"pool": "p"},
	})
	if err != nil {
		h.t.Fatalf("creating: %v\n%s", err, h.Logs())
	}
	return made.GetVolume().GetVolumeId()
}

// Stage stages a volume.
func (h *Host) Stage(n csi.NodeClient, id, staging string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := n.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: staging, VolumeCapability: AnyWriter()}); err != nil {
		h.t.Fatalf("staging: %v\n%s", err, h.Logs())
	}
}

// Volume makes a volume and brings it to a pod's path.
func (h *Host) Volume(controller, node *grpc.ClientConn) (id, target string) {
	h.t.Helper()
	n := csi.NewNodeClient(node)
	id = h.Create(controller)
	staging, target := h.Path("kubelet/staging"), h.Path("kubelet/pod")
	h.Stage(n, id, staging)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := n.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: staging, TargetPath: target, VolumeCapability: AnyWriter()}); err != nil {
		h.t.Fatalf("publishing: %v\n%s", err, h.Logs())
	}
	return id, target
}

// Clients gives the processes of glusterfs that mount below a folder.
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
