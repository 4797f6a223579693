// Package kubelet registers the driver with the kubelet of its node, which finds the socket in
// its plugins_registry directory and asks it for the driver's name and endpoint.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/atoll-storage/atoll/internal/socket"
	"github.com/atoll-storage/atoll/schema"
)

// csiVersion is the version of the CSI specification in a registration: the kubelet accepts
// every 1.x.
const csiVersion = "1.0.0"

// Registration is the registration of the driver.
type Registration struct {
	registration.UnimplementedRegistrationServer
	// Dir is the kubelet's plugins_registry directory.
	Dir string
	// Socket is the driver's socket, as the kubelet sees it.
	Socket string
	Log    logr.Logger
}

// GetInfo returns the driver's name and endpoint.
func (r *Registration) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: schema.DriverName, Endpoint: r.Socket,
		SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus logs whether the kubelet accepted the driver.
func (r *Registration) NotifyRegistrationStatus(
	_ context.Context, s *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if s.GetPluginRegistered() {
		r.Log.Info("registered with the kubelet")
	} else {
		r.Log.Error(errors.New(s.GetError()), "the kubelet refused the driver")
	}
	return &registration.RegistrationStatusResponse{}, nil
}

// Serve serves the registration until the context ends, which unregisters the driver.
func (r *Registration) Serve(ctx context.Context) error {
	s := grpc.NewServer()
	registration.RegisterRegistrationServer(s, r)
	if err := socket.Serve(ctx, s, filepath.Join(r.Dir, schema.DriverName+"-reg.sock")); err != nil {
		return fmt.Errorf("register with the kubelet: %w", err)
	}
	return nil
}
