// Package node is the CSI node service: it mounts volumes for the pods of its node. It keeps
// no state: the kernel knows what is mounted where. Its handlers know no locks: the
// interceptor of package rpc holds the lock of a volume while a call changes its mounts.
package node

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/node/repair"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/csi/topology"
	"github.com/atoll-storage/atoll/internal/linux/mounted"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// Attacher attaches block volumes to this node: see blockdev.Manager.
type Attacher interface {
	Attach(ctx context.Context, pool, name string) (blockdev.Device, error)
	Detach(ctx context.Context, pool, name string) error
}

// Devices are the block volumes of this node: the mount server.
type Devices interface {
	Attacher
	repair.LossReporter
	// MarkFormatted records that a file system was created on a volume.
	MarkFormatted(ctx context.Context, pool, name, fileSystem string) error
	// Grow grows a device to the size of its volume.
	Grow(ctx context.Context, pool, name string) (blockdev.Device, error)
}

// Config is what the service needs beside pools.
type Config struct {
	NodeID      string
	KubeletRoot string         // all staging and target paths must be below it
	Devices     Devices        // nil: no block volumes
	Clients     repair.Clients // nil: mounts whose client has died are not repaired
	Events      repair.Events  // nil reports nothing
}

// Server is the service.
type Server struct {
	csi.UnimplementedNodeServer
	config Config
	pools  pool.Opener
	log    logr.Logger
	repair repair.Config
	asking singleflight.Group // of statfs, by path
	// formatting is of file systems that are made or checked, by the label of their device.
	formatting singleflight.Group
}

// New returns the service of these pools.
func New(pools pool.Opener, locks *rpc.Locks, log logr.Logger, c Config) *Server {
	r := repair.Config{Pools: pools, Locks: locks, Log: log, KubeletRoot: c.KubeletRoot, Events: c.Events}
	r.Clients = c.Clients
	if c.Devices != nil {
		r.Losses = c.Devices
	}
	return &Server{config: c, pools: pools, log: log, repair: r}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { csi.RegisterNodeServer(r, s) }

// Background returns the work that runs beside calls, until its context ends.
func (s *Server) Background() []func(context.Context) {
	return []func(context.Context){func(ctx context.Context) { repair.Watch(ctx, s.repair) }}
}

// NodeGetCapabilities lists the calls that the service answers.
func (s *Server) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	response := &csi.NodeGetCapabilitiesResponse{}
	for _, t := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		response.Capabilities = append(response.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: t}},
		})
	}
	return response, nil
}

// NodeGetInfo returns the node's name and topology. There is no limit to the number of volumes.
func (s *Server) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: s.config.NodeID, AccessibleTopology: topology.Everywhere()}, nil
}

// readRequest checks the fields that staging and publishing have in common.
func readRequest(volume string, c *csi.VolumeCapability, fields ...string) (id volumeid.ID, err error) {
	if err := rpc.RequireFields(append([]string{"volume ID", volume}, fields...)...); err != nil {
		return id, err
	}
	if err := rpc.CheckWellFormed(c); err != nil {
		return id, err
	}
	if id, err = volumeid.Parse(volume); err != nil {
		return id, err
	}
	return id, rpc.CheckLayout(c, id.Layout)
}

// openDir opens a volume's directory.
func (s *Server) openDir(ctx context.Context, id volumeid.ID) (*safepath.Dir, error) {
	h, err := s.pools.Open(ctx, id.Pool, id.Layout)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	dirs, err := h.Directories()
	if err != nil {
		return nil, err
	}
	return dirs.Open(id.Name)
}

func isMounted(path string) (bool, error) {
	m, err := mounted.At(path)
	return m != nil, err
}
