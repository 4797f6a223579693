// Package driver is the CSI driver csi.atoll.storage (CSI specification 1.13): the
// services, and how their requests become work of the backends.
package driver

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/copies"
	"github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/internal/socket"
	"github.com/atoll-storage/atoll/schema"
)

// Mounter gives the folder where a pool is mounted with the graph of a layout; it
// has answered just now.
type Mounter interface {
	Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error)
}

// Blocks gives the node its block volumes: the mount holder.
type Blocks interface {
	Attach(ctx context.Context, pool, name string) (blockdev.Device, error)
	Detach(ctx context.Context, pool, name string) error
	Formatted(ctx context.Context, pool, name, fileSystem string) error
	Grow(ctx context.Context, pool, name string) (blockdev.Device, error)
	Lost(ctx context.Context) ([]blockdev.Lost, error)
}

// Driver is one process of the driver. Zero roles serve Identity alone.
type Driver struct {
	Version     string
	NodeID      string // name of the node; needed for the node service
	KubeletRoot string // below which all staging and target paths must lie
	Catalog     catalog.Folder
	Mounts      Mounter
	Blocks      Blocks        // nil: this process has none
	Quota       quota.Limiter // nil is quota.Advisory
	Copies      copies.Copier // makes snapshots and clones
	// Nodes tells whether the driver runs on a node; nil takes any for one that it does.
	Nodes      func(ctx context.Context, name string) (bool, error)
	Events     Events // nil tells nobody
	Log        logr.Logger
	Controller bool
	Node       bool

	metricsOnce sync.Once
	metrics     *metrics
}

// background runs work beside the services; stop ends it and waits.
func background(ctx context.Context, work func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		work(ctx)
	}()
	return func() {
		cancel()
		<-stopped
	}
}

func (d *Driver) limiter() quota.Limiter {
	if d.Quota == nil {
		return quota.Advisory{}
	}
	return d.Quota
}

// Serve answers on a unix socket (unix:///path) until the context ends.
func (d *Driver) Serve(ctx context.Context, endpoint string) error {
	path, isUnix := strings.CutPrefix(endpoint, "unix://")
	if !isUnix || !filepath.IsAbs(path) {
		return fmt.Errorf("the endpoint %q is not of the form unix:///path", endpoint)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(d.intercept))
	csi.RegisterIdentityServer(s, &identity{d: d})
	if d.Node {
		n := &node{d: d}
		csi.RegisterNodeServer(s, n)
		defer background(ctx, n.watch)()
	}
	if d.Controller {
		c := newController(d)
		csi.RegisterControllerServer(s, c)
		defer background(ctx, c.sweeper.run)()
		defer background(ctx, c.ledgers.warm)()
		defer background(ctx, c.spread)()
		defer background(ctx, c.usage)()
	}
	d.Log.Info("serving", "endpoint", endpoint, "controller", d.Controller, "node", d.Node)
	return socket.Serve(ctx, s, path)
}
