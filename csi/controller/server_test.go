package controller

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/internal/testbed"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// bed is a controller on plain directories.
type bed struct {
	*testbed.Bed
	server *Server
}

func newBed(t *testing.T, pools ...entry.Entry) *bed {
	t.Helper()
	b := testbed.New(t, pools...)
	return &bed{b, New(b.Pools, b.Locks, b.Log, Config{})}
}

func newRequest(name string, size int64, parameters map[string]string) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: size}, Parameters: parameters,
		VolumeCapabilities: []*csi.VolumeCapability{testbed.Mounted(testbed.ReadWriteMany)},
	}
}

func (b *bed) create(r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, codes.Code, string) {
	return testbed.Call(b.Bed, b.server.CreateVolume, r)
}

// mustCreate creates a volume and returns its ID.
func (b *bed) mustCreate(r *csi.CreateVolumeRequest) string {
	b.Helper()
	return testbed.MustCall(b.Bed, b.server.CreateVolume, r).GetVolume().GetVolumeId()
}

func (b *bed) mustDelete(id string) {
	b.Helper()
	testbed.MustCall(b.Bed, b.server.DeleteVolume, &csi.DeleteVolumeRequest{VolumeId: id})
}
