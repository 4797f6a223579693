// Package controller is the CSI controller service: it creates, expands, lists and deletes
// volumes and snapshots. Its handlers know no locks: the interceptor of package rpc holds the
// lock of a volume while a call changes it.
package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/controller/background"
	"github.com/atoll-storage/atoll/csi/controller/capacity"
	"github.com/atoll-storage/atoll/csi/copies"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Copier copies volumes and snapshots: see copies.Copier.
type Copier interface {
	Copy(ctx context.Context, r copies.Request, finish copies.Finish) error
}

// Config is what the service needs beside pools. The zero value serves.
type Config struct {
	Quota  quota.Limiter // nil is quota.Advisory
	Copies Copier        // nil is a copies.Copier without agents
	// HasDriver reports whether the driver runs on a node; nil accepts every node.
	HasDriver func(ctx context.Context, node string) (bool, error)
}

// Server is the service.
type Server struct {
	csi.UnimplementedControllerServer
	config  Config
	pools   pool.Opener
	log     logr.Logger
	ledgers *capacity.Ledgers
	jobs    jobs // copies in progress
	// begun is the pool, by volume, in which a creation was begun and did not succeed. The
	// pool may have the volume, so a repeated request goes to no other pool.
	begun sync.Map

	sweeper  *background.Sweeper
	spreader *background.Spreader
	usage    *background.Usage
}

// New returns the service of these pools.
func New(pools pool.Opener, locks *rpc.Locks, log logr.Logger, c Config) *Server {
	if c.Quota == nil {
		c.Quota = quota.Advisory{}
	}
	if c.Copies == nil {
		c.Copies = copies.Copier{Log: log}
	}
	ledgers := &capacity.Ledgers{Pools: pools, Log: log}
	return &Server{
		config: c, pools: pools, log: log, ledgers: ledgers,
		sweeper:  background.NewSweeper(pools, log),
		spreader: &background.Spreader{Pools: pools, Locks: locks, Log: log},
		usage:    background.NewUsage(ledgers, log),
	}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { csi.RegisterControllerServer(r, s) }

// Background returns the work that runs beside calls, until its context ends.
func (s *Server) Background() []func(context.Context) {
	return []func(context.Context){s.sweeper.Run, s.ledgers.Warm, s.spreader.Run, s.usage.Run}
}

// Metrics returns the metrics of pools.
func (s *Server) Metrics() prometheus.Gatherer { return s.usage.Metrics() }

// capabilities are the calls that the service answers.
var capabilities = []csi.ControllerServiceCapability_RPC_Type{
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
	csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
	csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
	csi.ControllerServiceCapability_RPC_GET_CAPACITY,
	csi.ControllerServiceCapability_RPC_GET_VOLUME,
	csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
	csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
	csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
	csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
}

// ControllerGetCapabilities lists the calls that the service answers.
func (s *Server) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	response := &csi.ControllerGetCapabilitiesResponse{}
	for _, t := range capabilities {
		response.Capabilities = append(response.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: t}},
		})
	}
	return response, nil
}

// openVolume opens the pool of a volume ID and reads the volume.
func (s *Server) openVolume(
	ctx context.Context, text string,
) (id volumeid.ID, h *pool.Handle, v backend.Volume, err error) {
	if err := rpc.RequireFields("volume ID", text); err != nil {
		return id, nil, v, err
	}
	if id, err = volumeid.Parse(text); err != nil {
		return id, nil, v, err
	}
	if h, err = s.pools.Open(ctx, id.Pool, id.Layout); err != nil {
		return id, nil, v, err
	}
	if v, err = h.Backend.Get(ctx, id.Name); err != nil {
		return id, nil, v, errors.Join(err, h.Close())
	}
	return id, h, v, nil
}

// limit enforces the size in a volume's record. The mode is "" where no volume can exceed its
// size.
func (s *Server) limit(ctx context.Context, h *pool.Handle, v backend.Volume) (quota.Mode, error) {
	dirs, ok := h.Backend.(backend.Directories)
	if !ok || dirs.Place(v.Name) == "" { // a device, or a whole pool
		return "", nil
	}
	mode, err := s.config.Quota.Limit(ctx, h.Pool, dirs.Place(v.Name), v.Size)
	if err != nil {
		return "", fmt.Errorf("%w: pool %s: %w", rpc.ErrNoQuota, h.Name(), err)
	}
	return mode, nil
}
