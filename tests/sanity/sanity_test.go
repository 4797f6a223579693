// Package sanity runs the CSI conformance suite (csi-sanity) against the driver on real bricks. It
// is a separate module because of the suite's dependencies.
package sanity

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"

	"github.com/atoll-storage/atoll/csi/blockdev"
	csicatalog "github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/controller"
	"github.com/atoll-storage/atoll/csi/driver"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/node"
	"github.com/atoll-storage/atoll/render/volfile"
	"github.com/atoll-storage/atoll/schema"
	"github.com/atoll-storage/atoll/schema/catalog"
	"github.com/atoll-storage/atoll/tests/internal/await"
	"github.com/atoll-storage/atoll/tests/internal/bricks"
	"github.com/atoll-storage/atoll/tests/internal/sandbox"
)

// TestMain lets a few pools be tested side by side.
func TestMain(m *testing.M) {
	if os.Getenv(poolVariable) == "" { // Ginkgo refuses the flag
		sandbox.Parallel(3)
	}
	os.Exit(sandbox.Run(m))
}

// serve starts the driver with both roles and returns its endpoint and the kubelet's root.
func serve(t *testing.T, folder csicatalog.Folder) (endpoint, kubelet string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi-") // short: paths of sockets have at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	kubelet = filepath.Join(dir, "kubelet")
	if err := os.Mkdir(kubelet, 0o755); err != nil {
		t.Fatal(err)
	}
	clients, err := mounts.New(filepath.Join(dir, "mounts"), logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	d := driver.New(driver.Config{
		Version: "test", Catalog: folder, Mounts: clients, Log: logr.Discard(),
		Controller: &controller.Config{
			HasDriver: func(_ context.Context, name string) (bool, error) { return name == "node", nil },
		},
		Node: &node.Config{
			NodeID: "node", KubeletRoot: kubelet, Clients: clients,
			Devices: &blockdev.Manager{Pools: clients, Catalog: folder, Node: dir, Log: logr.Discard()},
		},
	})
	endpoint = "unix://" + filepath.Join(dir, "csi.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, endpoint) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		clients.Close()
		if err := bricks.UnmountBelow(dir); err != nil { // a failed test may leave mounts
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	await.True(t, "the driver listens", func() bool {
		_, err := os.Stat(filepath.Join(dir, "csi.sock"))
		return err == nil
	})
	return endpoint, kubelet
}

// suite runs the suite with the parameters of a class.
func suite(t *testing.T, folder csicatalog.Folder, parameters map[string]string) {
	t.Helper()
	endpoint, kubelet := serve(t, folder)
	file := filepath.Join(t.TempDir(), "parameters.yaml")
	text := ""
	for name, value := range parameters {
		text += name + ": " + value + "\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	config := sanity.NewTestConfig()
	config.Address = endpoint
	config.TargetPath = filepath.Join(kubelet, "target")
	config.StagingPath = filepath.Join(kubelet, "staging")
	config.TestVolumeParametersFile = file
	config.TestVolumeSize = 10 << 20
	config.TestVolumeExpandSize = 20 << 20
	config.IdempotentCount = 3
	if parameters["layout"] == string(schema.Block) { // the suite expects exactly these sizes
		config.TestVolumeSize, config.TestVolumeExpandSize = 320<<20, 400<<20
		if os.Getenv(poolVariable) == "Raw" {
			config.TestVolumeAccessType = "block"
		}
	}
	config.TestVolumeMutableParameters = map[string]string{"reclaim": "Archive"}
	sanity.Test(t, config)
}

func start(t *testing.T, kind schema.Type, count int, shape func(*volfile.Pool)) *bricks.Cluster {
	t.Helper()
	if _, err := exec.LookPath("glusterfs"); err != nil {
		t.Skip("glusterfs is not installed: run make deps")
	}
	return bricks.Start(t, kind, count, shape)
}

// pools start the pools that the suite runs on, and return the parameters of the class.
var pools = map[string]func(*testing.T, csicatalog.Folder) map[string]string{
	"Replica1": func(t *testing.T, f csicatalog.Folder) map[string]string {
		start(t, schema.Replica1, 1, nil).Catalog(f, schema.Subdirectory)
		return map[string]string{"pool": "p"}
	},
	"Replica3": func(t *testing.T, f csicatalog.Folder) map[string]string {
		start(t, schema.Replica3, 3, nil).Catalog(f, schema.Subdirectory)
		return map[string]string{"pool": "p"}
	},
	"Block": func(t *testing.T, f csicatalog.Folder) map[string]string {
		start(t, schema.Replica3, 3, nil).Catalog(f, schema.Block)
		return map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"}
	},
	"Raw": func(t *testing.T, f csicatalog.Folder) map[string]string {
		start(t, schema.Replica3, 3, nil).Catalog(f, schema.Block)
		return map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"}
	},
	"Disperse": func(t *testing.T, f csicatalog.Folder) map[string]string {
		c := start(t, schema.Disperse, 3, func(p *volfile.Pool) { p.Data, p.Redundancy = 2, 1 })
		c.Catalog(f, schema.Subdirectory)
		return map[string]string{"poolSelector": "type=Disperse"}
	},
	// A pool is one volume, and the suite has many at a time: many pools.
	"Single": func(t *testing.T, f csicatalog.Folder) map[string]string {
		names := ""
		for i := range 12 {
			c := start(t, schema.Replica1, 1, func(p *volfile.Pool) { p.Name = fmt.Sprintf("s%d", i) })
			c.Catalog(f, schema.Single)
			names += "," + c.Pool.Name
		}
		return map[string]string{"pool": names[1:]}
	},
	"External": func(t *testing.T, f csicatalog.Folder) map[string]string {
		g := bricks.StartGlusterd(t, "127.1.1.10")
		g.Create("vol1", 3, "replica", "3")
		g.Do("volume", "start", "vol1")
		text, err := catalog.Encode(catalog.Entry{
			Pool: "ext", Namespace: "atoll-system", Type: schema.External,
			Layouts:  []schema.Layout{schema.Subdirectory},
			Reclaim:  schema.ReclaimDelete,
			External: &schema.ExternalSpec{Hosts: []string{"127.1.1.10"}, Volume: "vol1"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write("ext", map[string]string{catalog.KeyEntry: string(text)}); err != nil {
			t.Fatal(err)
		}
		return map[string]string{"pool": "ext"}
	},
}

// poolVariable tells a copy of this program on which pool to run the suite, which runs once per
// process.
const poolVariable = "ATOLL_SANITY_POOL"

// snapshotTests matches the suite's tests of snapshots and clones, which only block volumes
// have.
const snapshotTests = `(?i)snapshot|source volume|volume source`

// TestSanity runs the suite on every type of pool.
func TestSanity(t *testing.T) {
	if name := os.Getenv(poolVariable); name != "" {
		folder := csicatalog.Folder{Dir: t.TempDir()}
		suite(t, folder, pools[name](t, folder))
		return
	}
	for name := range pools {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestSanity$", "-test.v", "-ginkgo.no-color", "-ginkgo.v")
			if name != "Block" && name != "Raw" {
				cmd.Args = append(cmd.Args, "-ginkgo.skip="+snapshotTests)
			}
			cmd.Env = append(os.Environ(), poolVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			ran := regexp.MustCompile(`Ran [0-9]+ of .*|[0-9]+ Passed.*`).FindAllString(string(out), -1)
			t.Log(strings.Join(ran, "; "))
		})
	}
}
