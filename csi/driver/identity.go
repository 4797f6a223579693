package driver

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
)

// identity is the CSI identity service.
type identity struct {
	csi.UnimplementedIdentityServer
	version string
	catalog catalog.Folder
	log     logr.Logger
}

// Register adds the service to a gRPC server.
func (i *identity) Register(r grpc.ServiceRegistrar) { csi.RegisterIdentityServer(r, i) }

// Background returns nothing: the service has no work beside its calls.
func (*identity) Background() []func(context.Context) { return nil }

// GetPluginInfo returns the driver's name and version.
func (i *identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: schema.DriverName, VendorVersion: i.version}, nil
}

// GetPluginCapabilities lists the capabilities of the plugin as a whole.
func (i *identity) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	has := func(t csi.PluginCapability_Service_Type) *csi.PluginCapability {
		return &csi.PluginCapability{
			Type: &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: t}},
		}
	}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		has(csi.PluginCapability_Service_CONTROLLER_SERVICE),
		has(csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS),
		{Type: &csi.PluginCapability_VolumeExpansion_{
			VolumeExpansion: &csi.PluginCapability_VolumeExpansion{Type: csi.PluginCapability_VolumeExpansion_ONLINE},
		}},
	}}, nil
}

// Probe is ready when the catalog can be read. A pool that cannot be reached affects only
// that pool, and is no reason to restart the driver.
func (i *identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	_, err := i.catalog.Names()
	if err != nil {
		i.log.Error(err, "not ready")
	}
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(err == nil)}, nil
}
