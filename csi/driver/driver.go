// Package driver is the CSI driver csi.atoll.storage (CSI specification 1.13): the
// services, and how their requests become work of the backends.
package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
)

// Mounter gives the folder where a pool is mounted with the graph of a layout; it
// has answered just now.
type Mounter interface {
	Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error)
}

// Driver is one process of the driver. Zero roles serve Identity alone.
type Driver struct {
	Version     string
	NodeID      string // name of the node; needed for the node service
	KubeletRoot string // below which all staging and target paths must lie
	Catalog     catalog.Folder
	Mounts      Mounter
	Log         logr.Logger
	Controller  bool
	Node        bool

	metricsOnce sync.Once
	metrics     *metrics
}

// Serve answers on a unix socket (unix:///path) until the context ends.
func (d *Driver) Serve(ctx context.Context, endpoint string) error {
	path, isUnix := strings.CutPrefix(endpoint, "unix://")
	if !isUnix || !filepath.IsAbs(path) {
		return fmt.Errorf("the endpoint %q is not of the form unix:///path", endpoint)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the socket of a former process: %w", err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(d.intercept))
	d.Register(s)
	stopped := context.AfterFunc(ctx, s.GracefulStop)
	defer stopped()
	d.Log.Info("serving", "endpoint", endpoint, "controller", d.Controller, "node", d.Node)
	return s.Serve(l)
}

// Register adds the services of the driver's roles to a server.
func (d *Driver) Register(s grpc.ServiceRegistrar) {
	csi.RegisterIdentityServer(s, &identity{d: d})
	if d.Controller {
		csi.RegisterControllerServer(s, newController(d))
	}
	if d.Node {
		csi.RegisterNodeServer(s, &node{d: d})
	}
}
