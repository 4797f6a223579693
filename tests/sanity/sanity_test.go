// Package sanity runs the CSI conformance suite (csi-sanity) against the driver on
// real bricks. It is a module of its own for the suite's dependencies.
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
	"time"

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
	"github.com/atoll-storage/atoll/tests/internal/bricks"
)

// serve starts the driver with both roles and gives its endpoint and the
// kubelet's root.
func serve(t *testing.T, folder csicatalog.Folder) (endpoint, kubelet string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "csi-") // a socket's path is limited
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
		Controller: &controller.Config{HasDriver: func(_ context.Context, name string) (bool, error) { return name == "node", nil }},
		Node: &node.Config{
			NodeID: "node", KubeletRoot: kubelet,
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
			t.Errorf("serving: %v", err)
		}
		clients.Close()
		if err := bricks.UnmountBelow(dir); err != nil { // what a failed test left
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	for range 100 {
		if _, err := os.Stat(filepath.Join(dir, "csi.sock")); err == nil {
			return endpoint, kubelet
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the driver does not listen")
	return "", ""
}

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
	if parameters["layout"] == string(schema.Block) { // the suite wants to get what it asks for
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

// pools are what the suite runs on; each gives the parameters of the class.
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
	// A pool is one volume, and the suite makes many at a time: many pools.
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
			Pool: "ext", Namespace: "atoll-system", Type: schema.External, Layouts: []schema.Layout{schema.Subdirectory},
			Reclaim: schema.ReclaimDelete, External: &schema.ExternalSpec{Hosts: []string{"127.1.1.10"}, Volume: "vol1"},
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

// poolVariable tells a copy of the test which pool to run the suite on: the suite
// runs once a process.
const poolVariable = "ATOLL_SANITY_POOL"

// copies are the suite's tests of snapshots and clones: of folders there are none, and
// which pool a volume is in the suite does not know.
const copies = `(?i)snapshot|source volume|volume source`

// TestSanity runs the suite on every kind of pool.
func TestSanity(t *testing.T) {
	if name := os.Getenv(poolVariable); name != "" {
		folder := csicatalog.Folder{Dir: t.TempDir()}
		suite(t, folder, pools[name](t, folder))
		return
	}
	for name := range pools {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestSanity$", "-test.v", "-ginkgo.no-color", "-ginkgo.v")
			if name != "Block" && name != "Raw" {
				cmd.Args = append(cmd.Args, "-ginkgo.skip="+copies)
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
