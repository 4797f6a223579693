// Package driver is the CSI driver csi.atoll.storage (CSI specification 1.13): it wires the
// services of a process together and serves them.
package driver

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/controller"
	"github.com/atoll-storage/atoll/csi/node"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/internal/socket"
)

// Config is one process of the driver. Without services it serves Identity alone.
type Config struct {
	Version    string
	Catalog    catalog.Folder
	Mounts     pool.Mounter
	Log        logr.Logger
	Controller *controller.Config // nil: no controller service
	Node       *node.Config       // nil: no node service
}

// Driver is one process of the driver.
type Driver struct {
	log         logr.Logger
	interceptor *rpc.Interceptor
	services    []service
	metrics     prometheus.Gatherers
}

// service is a gRPC service with work that runs beside its calls until its context ends.
type service interface {
	Register(r grpc.ServiceRegistrar)
	Background() []func(context.Context)
}

// New returns a driver with the services of a Config.
func New(c Config) *Driver {
	pools, locks := pool.Opener{Catalog: c.Catalog, Mounts: c.Mounts}, &rpc.Locks{}
	d := &Driver{log: c.Log, interceptor: rpc.NewInterceptor(c.Log, locks)}
	d.metrics = prometheus.Gatherers{d.interceptor.Metrics()}
	d.services = append(d.services, &identity{version: c.Version, catalog: c.Catalog, log: c.Log})
	if c.Node != nil {
		d.services = append(d.services, node.New(pools, locks, c.Log, *c.Node))
	}
	if c.Controller != nil {
		s := controller.New(pools, locks, c.Log, *c.Controller)
		d.services, d.metrics = append(d.services, s), append(d.metrics, s.Metrics())
	}
	return d
}

// Metrics returns the metrics of calls and pools.
func (d *Driver) Metrics() prometheus.Gatherer { return d.metrics }

// Serve serves on a unix socket (unix:///path) until the context ends.
func (d *Driver) Serve(ctx context.Context, endpoint string) error {
	path, isUnix := strings.CutPrefix(endpoint, "unix://")
	if !isUnix || !filepath.IsAbs(path) {
		return fmt.Errorf("endpoint %q is not of the form unix:///path", endpoint)
	}
	s := grpc.NewServer(grpc.UnaryInterceptor(d.interceptor.Intercept))
	background, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for _, one := range d.services {
		one.Register(s)
		for _, work := range one.Background() {
			running.Go(func() { work(background) })
		}
	}
	d.log.Info("serving", "endpoint", endpoint, "services", slices.Sorted(maps.Keys(s.GetServiceInfo())))
	return socket.Serve(ctx, s, path)
}
