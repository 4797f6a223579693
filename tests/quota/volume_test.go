package quota

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	brickagent "github.com/atoll-storage/atoll/brick/agent"
	brickquota "github.com/atoll-storage/atoll/brick/quota"
	"github.com/atoll-storage/atoll/csi/agents"
	"github.com/atoll-storage/atoll/csi/catalog"
	csicontroller "github.com/atoll-storage/atoll/csi/controller"
	"github.com/atoll-storage/atoll/csi/driver"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/internal/agent"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/host"
	"github.com/atoll-storage/atoll/tests/internal/vm"
)

// created and grown are the sizes of a volume when it is created and after it was expanded. They
// are small because every written byte is emulated on all bricks.
const created, grown = 8 * mib, 12 * mib

var key = bytes.Repeat([]byte("k"), 32)

// startAgent runs the agent of a brick and returns its port.
func startAgent(t *testing.T, c *bricks.Cluster, index int, parts int64) int {
	t.Helper()
	a, err := brickagent.New(brickagent.Brick{
		Namespace: "atoll-system", Pool: "p", Position: strconv.Itoa(index),
		Directory: c.Pool.Bricks[index].Directory, Parts: parts,
	}, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &brickagent.Server{Agent: a, Keys: func() (agent.Keys, error) { return agent.Keys{key}, nil }}
	h := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: time.Minute}
	go func() { _ = h.Serve(l) }() // until it is closed
	t.Cleanup(func() { h.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// pool starts bricks, each on a disk with project quotas, and their agents.
func pool(t *testing.T, kind schema.Type, disks []string, shape func(*volfile.Pool), parts int64) *bricks.Cluster {
	t.Helper()
	c := bricks.Start(t, kind, len(disks), func(p *volfile.Pool) {
		for i := range p.Bricks {
			p.Bricks[i].Directory = filepath.Join(xfs(t, disks[i], "prjquota"), "brick")
		}
		if shape != nil {
			shape(p)
		}
	})
	var ports []int
	for i := range disks {
		ports = append(ports, startAgent(t, c, i, parts))
	}
	c.Agents(ports)
	return c
}

// controller serves the pool. It authenticates to the agents with these keys.
func controller(ctx context.Context, t *testing.T, c *bricks.Cluster, keys *agent.Keys) csi.ControllerClient {
	t.Helper()
	dir := t.TempDir()
	pools := catalog.Folder{Dir: filepath.Join(dir, "catalog")}
	c.Catalog(pools, schema.Subdirectory)
	clients, err := mounts.New(filepath.Join(dir, "mounts"), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clients.Close)
	authenticated := &agents.Agents{Keys: func() (agent.Keys, error) { return *keys, nil }}
	d := driver.New(driver.Config{
		Catalog: pools, Mounts: clients, Log: logr.Discard(),
		Controller: &csicontroller.Config{Quota: &quota.Agents{Agents: authenticated}},
	})
	socket := "unix://" + filepath.Join(dir, "csi.sock")
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	go func() { served <- d.Serve(ctx, socket) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return csi.NewControllerClient(conn)
}

func create(ctx context.Context, client csi.ControllerClient, name string, size int64) (*csi.Volume, error) {
	made, err := client.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, Parameters: map[string]string{"pool": "p"}, CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		VolumeCapabilities: []*csi.VolumeCapability{host.AnyWriter()},
	})
	return made.GetVolume(), err
}

// TestReplica3Quota creates a volume on three replicas, fills it, expands it and fills it again,
// through the driver, the bricks' agents and a mount.
func TestReplica3Quota(t *testing.T) {
	if disks, isInside := vm.Run(t, 512*mib, 512*mib, 512*mib); isInside {
		c := pool(t, schema.Replica3, disks, nil, 1)
		replaceBrick(t, c, fillAndExpand(t, c), 1)
	}
}

// TestDisperseQuota is the same on two data bricks and one redundancy brick, each of which has
// half of the volume.
func TestDisperseQuota(t *testing.T) {
	if disks, isInside := vm.Run(t, 512*mib, 512*mib, 512*mib); isInside {
		c := pool(t, schema.Disperse, disks, func(p *volfile.Pool) { p.Data, p.Redundancy = 2, 1 }, 2)
		replaceBrick(t, c, fillAndExpand(t, c), 2)
	}
}

// fillAndExpand returns the mounted path of a volume that was expanded and is full. Brick 2 is
// stopped.
func fillAndExpand(t *testing.T, c *bricks.Cluster) (at string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	keys := agent.Keys{key}
	client := controller(ctx, t, c, &keys)
	mounted := c.Mount("tenant", volfile.Client)
	volume, err := create(ctx, client, "v", created)
	if err != nil {
		t.Fatal(err)
	}
	if mode := volume.GetVolumeContext()[quota.ContextKey]; mode != string(quota.ModeEnforced) {
		t.Errorf("the quota of the volume is %q", mode)
	}
	found, err := filepath.Glob(filepath.Join(mounted, "subvol/*/*/*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("volumes on the pool: %v, %v", found, err)
	}
	checkSize(t, found[0], created)
	checkFull(t, found[0], created)
	expand := &csi.ControllerExpandVolumeRequest{
		VolumeId: volume.GetVolumeId(), CapacityRange: &csi.CapacityRange{RequiredBytes: grown},
	}
	if _, err := client.ControllerExpandVolume(ctx, expand); err != nil {
		t.Fatal(err)
	}
	checkSize(t, found[0], grown)
	checkFull(t, found[0], grown)
	// Files outside the volume do not count.
	if _, err := fill(filepath.Join(mounted, "outside"), grown+4*mib); err != nil {
		t.Errorf("outside the volume: %v", err)
	}
	// Agents reject a wrong key, and then the volume is not provisioned.
	keys = agent.Keys{bytes.Repeat([]byte("x"), 32)}
	if _, err := create(ctx, client, "w", mib); status.Code(err) != codes.Unavailable {
		t.Errorf("with a wrong key: %v", err)
	}
	keys = agent.Keys{key}
	if _, err := create(ctx, client, "w", mib); err != nil {
		t.Errorf("with the right key again: %v", err)
	}
	// Volumes are provisioned while one brick is down.
	bricks.Stop(c.Bricks[2])
	if _, err := create(ctx, client, "x", mib); err != nil {
		t.Errorf("with one brick down: %v", err)
	}
	return found[0]
}

// replaceBrick gives the stopped brick an empty directory and heals it: limits return with the
// records, and healed files count.
func replaceBrick(t *testing.T, c *bricks.Cluster, at string, parts int64) {
	t.Helper()
	c.Replace(2)
	brick := c.Pool.Bricks[2].Directory
	a, err := brickagent.New(brickagent.Brick{
		Namespace: "atoll-system", Pool: "p", Position: "2", Directory: brick, Parts: parts,
	}, logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	c.Heal()
	sets, err := gluster.ParseHealers(c.HealVolfile())
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Rel(filepath.Dir(filepath.Dir(filepath.Dir(filepath.Dir(at)))), at) // subvol/xx/yy/v
	if err != nil {
		t.Fatal(err)
	}
	var asked time.Time
	c.Eventually("the new brick has the volume", func() bool {
		if time.Since(asked) > 5*time.Second { // the daemon has to connect first
			asked = time.Now()
			_ = sets.Heal(ctx, c.HealSocket(), gluster.HealFull) // again
		}
		var st unix.Stat_t
		return unix.Stat(filepath.Join(brick, folder, "file"), &st) == nil && st.Blocks*512 >= (grown-mib)/parts
	})
	b, err := brickquota.Open(brick)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	c.Eventually("the healed file counts on the new brick", func() bool { // the file may still be written
		if err := a.Derive(ctx); err != nil {
			t.Fatal(err)
		}
		u, err := b.Usage(folder)
		return err == nil && u.Limit == uint64(grown/parts) && u.Bytes >= uint64((grown-2*mib)/parts)
	})
	if err := os.Remove(filepath.Join(at, "file")); err != nil {
		t.Fatal(err)
	}
	// XFS frees removed files in the background.
	c.Eventually("the volume has room again", func() bool {
		return os.WriteFile(filepath.Join(at, "file"), []byte("text"), 0o600) == nil
	})
	// The healed brick may use other block counts than the others. If it reaches the limit one write
	// earlier, GlusterFS may report EIO first.
	checkFull(t, at, grown, unix.EIO)
}
