// Package kubelet registers the driver with the kubelet of its node: the kubelet
// finds the socket in its folder of registrations and asks who is there.
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

// csiVersion is the version of the CSI specification in a registration: kubelet
// takes any 1.x.
const csiVersion = "1.0.0"

// Registration is one driver.
type Registration struct {
	registration.UnimplementedRegistrationServer
	// Folder is the kubelet's plugins_registry.
	Folder string
	// Socket is the driver's, as the kubelet sees it.
	Socket string
	Log    logr.Logger
}

// GetInfo tells the kubelet who is there.
func (r *Registration) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: schema.DriverName, Endpoint: r.Socket, SupportedVersions: []string{csiVersion},
	}, nil
}

// NotifyRegistrationStatus hears what the kubelet made of it.
func (r *Registration) NotifyRegistrationStatus(_ context.Context, s *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if s.GetPluginRegistered() {
		r.Log.Info("registered with the kubelet")
	} else {
		r.Log.Error(errors.New(s.GetError()), "the kubelet does not take the driver")
	}
	return &registration.RegistrationStatusResponse{}, nil
}

// Serve waits for the kubelet until the context ends, and takes the registration
// back then.
func (r *Registration) Serve(ctx context.Context) error {
	s := grpc.NewServer()
	registration.RegisterRegistrationServer(s, r)
	if err := socket.Serve(ctx, s, filepath.Join(r.Folder, schema.DriverName+"-reg.sock")); err != nil {
		return fmt.Errorf("registering with the kubelet: %w", err)
	}
	return nil
}
