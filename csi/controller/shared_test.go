package controller

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/internal/testbed"
	"github.com/atoll-storage/atoll/csi/rpc"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// TestSharedBlocks lists the capabilities that block volumes of a class support. All later
// calls agree: the record of the volume decides.
func TestSharedBlocks(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Block}})
	type capabilities = []*csi.VolumeCapability
	for name, test := range map[string]struct {
		parameter string
		asked     capabilities
		message   string // of the refusal; "" is created
		shared    bool
	}{
		"one node":                   {"", capabilities{testbed.Raw(testbed.ReadWriteOnce)}, "", false},
		"one node, sharing class":    {"true", capabilities{testbed.Raw(testbed.ReadWriteOnce)}, "", false},
		"one pod, sharing class":     {"true", capabilities{testbed.Raw(testbed.ReadWriteOncePod)}, "", false},
		"file system, sharing class": {"true", capabilities{testbed.Mounted(testbed.ReadWriteOnce)}, "", false},
		"many nodes":                 {"true", capabilities{testbed.Raw(testbed.ReadWriteMany)}, "", true},
		"one and many nodes": {
			"true",
			capabilities{testbed.Raw(testbed.ReadWriteOnce), testbed.Raw(testbed.ReadWriteMany)},
			"", true,
		},
		"parameter missing": {
			"",
			capabilities{testbed.Raw(testbed.ReadWriteMany)},
			`a class with the parameter rawReadWriteMany: "true"`, false,
		},
		"parameter false": {
			"false",
			capabilities{testbed.Raw(testbed.ReadWriteMany)},
			`a class with the parameter rawReadWriteMany: "true"`, false,
		},
		"parameter misspelt": {
			"True",
			capabilities{testbed.Raw(testbed.ReadWriteMany)},
			`is "True"; set "true" or "false"`, false,
		},
		"file system on many nodes": {
			"true",
			capabilities{testbed.Mounted(testbed.ReadWriteMany)},
			"not supported for file systems on block volumes", false,
		},
		"file system, and many nodes": {"true", capabilities{
			testbed.Mounted(testbed.ReadWriteOnce),
			testbed.Raw(testbed.ReadWriteMany),
		}, "corrupt a file system", false},
		"one pod, and many nodes": {"true", capabilities{
			testbed.Raw(testbed.ReadWriteOncePod),
			testbed.Raw(testbed.ReadWriteMany),
		}, "ReadWriteOncePod excludes", false},
		"read-only": {
			"true",
			capabilities{testbed.Raw(testbed.ReadOnlyMany)},
			"nothing would keep other nodes from writing", false,
		},
		"read-only file system": {
			"true",
			capabilities{testbed.Mounted(testbed.ReadOnlyMany)},
			"not supported for file systems on block volumes", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest("v "+name, 1<<20, map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"})
			if r.VolumeCapabilities = test.asked; test.parameter != "" {
				r.Parameters[rpc.ParameterRawShared] = test.parameter
			}
			created, code, message := testbed.Call(b.Bed, b.server.CreateVolume, r)
			if test.message != "" {
				if code != codes.InvalidArgument || !strings.Contains(message, test.message) {
					t.Errorf("%s %s", code, message)
				}
				return
			}
			if code != codes.OK {
				t.Fatal(message)
			}
			b.checkAgree(created.GetVolume().GetVolumeId(), test.shared)
			if repeated := testbed.MustCall(b.Bed, b.server.CreateVolume,
				r); repeated.GetVolume().GetVolumeId() != created.GetVolume().GetVolumeId() {
				t.Errorf("a repeated request returns %v", repeated)
			}
			other := testbed.Raw(testbed.ReadWriteMany)
			if test.shared {
				other = testbed.Raw(testbed.ReadWriteOnce)
			}
			r.Parameters[rpc.ParameterRawShared], r.VolumeCapabilities = "true", capabilities{other}
			if _, code, message := testbed.Call(b.Bed, b.server.CreateVolume, r); code != codes.AlreadyExists {
				t.Errorf("a request that differs in sharing: %s %s", code, message)
			}
		})
	}
}

// checkAgree checks that a volume is published and validated for several nodes only if it is
// shared.
func (b *bed) checkAgree(id string, shared bool) {
	b.Helper()
	want := codes.InvalidArgument
	if shared {
		want = codes.OK
	}
	for _, node := range []string{"a", "b"} {
		_, code, message := testbed.Call(b.Bed, b.server.ControllerPublishVolume,
			&csi.ControllerPublishVolumeRequest{
				VolumeId: id, NodeId: node,
				VolumeCapability: testbed.Raw(testbed.ReadWriteMany),
			})
		if code != want {
			b.Errorf("published for several nodes: %s %s", code, message)
		}
	}
	validated := testbed.MustCall(b.Bed, b.server.ValidateVolumeCapabilities,
		&csi.ValidateVolumeCapabilitiesRequest{
			VolumeId:           id,
			VolumeCapabilities: []*csi.VolumeCapability{testbed.Raw(testbed.ReadWriteMany)},
		})
	if confirmed := validated.GetConfirmed() != nil; confirmed != shared {
		b.Errorf("shared: %t, confirmed: %t, %s", shared, confirmed, validated.GetMessage())
	}
}

// TestSharedCapacity: a class has capacity for shared volumes only if it allows them.
func TestSharedCapacity(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Block}})
	r := &csi.GetCapacityRequest{
		VolumeCapabilities: []*csi.VolumeCapability{testbed.Raw(testbed.ReadWriteMany)},
		Parameters:         map[string]string{"pool": "p", rpc.ParameterRawShared: "true"},
	}
	if has := testbed.MustCall(b.Bed, b.server.GetCapacity, r); has.GetAvailableCapacity() == 0 {
		t.Error("a class that allows sharing has no capacity")
	}
	delete(r.Parameters, rpc.ParameterRawShared)
	if _, code, message := testbed.Call(b.Bed, b.server.GetCapacity, r); code != codes.InvalidArgument ||
		!strings.Contains(message, "rawReadWriteMany") {
		t.Errorf("a class that does not allow sharing: %s %s", code, message)
	}
}
