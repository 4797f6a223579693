package driver

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// Access modes, shortly.
const (
	oneWriter   = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	onePod      = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	manyReaders = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
)

func raw(mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode},
	}
}

// TestSharedBlocks holds what block volumes can be asked for with, by class, and that all
// calls agree about a volume that was made: its record decides.
func TestSharedBlocks(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Block}})
	type capabilities = []*csi.VolumeCapability
	for name, test := range map[string]struct {
		parameter string
		asked     capabilities
		says      string // "" is made
		shared    bool
	}{
		"one":                {"", capabilities{raw(oneWriter)}, "", false},
		"one of sharing":     {"true", capabilities{raw(oneWriter)}, "", false},
		"pod of sharing":     {"true", capabilities{raw(onePod)}, "", false},
		"files of sharing":   {"true", capabilities{capability(oneWriter)}, "", false},
		"many":               {"true", capabilities{raw(anyWriter)}, "", true},
		"one and many":       {"true", capabilities{raw(oneWriter), raw(anyWriter)}, "", true},
		"not allowed":        {"", capabilities{raw(anyWriter)}, `of a class with the parameter rawReadWriteMany: "true"`, false},
		"forbidden":          {"false", capabilities{raw(anyWriter)}, `of a class with the parameter rawReadWriteMany: "true"`, false},
		"no word for it":     {"True", capabilities{raw(anyWriter)}, `is "True"; it is "true" or "false"`, false},
		"many files":         {"true", capabilities{capability(anyWriter)}, "not for file systems on block volumes", false},
		"files, and many":    {"true", capabilities{capability(oneWriter), raw(anyWriter)}, "destroy a file system of one", false},
		"a pod, and many":    {"true", capabilities{raw(onePod), raw(anyWriter)}, "ReadWriteOncePod would forbid", false},
		"readers":            {"true", capabilities{raw(manyReaders)}, "nothing would keep the others from writing", false},
		"readers, and files": {"true", capabilities{capability(manyReaders)}, "not for file systems on block volumes", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := createRequest("v "+name, 1<<20, map[string]string{"pool": "p", "layout": "Block", "overcommit": "100"})
			if r.VolumeCapabilities = test.asked; test.parameter != "" {
				r.Parameters[parameterRawShared] = test.parameter
			}
			made, code, message := call(b, b.controller.CreateVolume, r)
			if test.says != "" {
				if code != codes.InvalidArgument || !strings.Contains(message, test.says) {
					t.Errorf("%s %s", code, message)
				}
				return
			}
			if code != codes.OK {
				t.Fatal(message)
			}
			b.agrees(t, made.GetVolume().GetVolumeId(), test.shared)
			if again := answered(b, b.controller.CreateVolume, r); again.GetVolume().GetVolumeId() != made.GetVolume().GetVolumeId() {
				t.Errorf("a repeat gives %v", again)
			}
			other := raw(anyWriter)
			if test.shared {
				other = raw(oneWriter)
			}
			r.Parameters[parameterRawShared], r.VolumeCapabilities = "true", capabilities{other}
			if _, code, message := call(b, b.controller.CreateVolume, r); code != codes.AlreadyExists {
				t.Errorf("a request for the other kind: %s %s", code, message)
			}
		})
	}
}

// agrees holds that a volume can be published and is confirmed for several nodes only if it
// is shared.
func (b *bed) agrees(t *testing.T, id string, shared bool) {
	t.Helper()
	want := codes.InvalidArgument
	if shared {
		want = codes.OK
	}
	for _, node := range []string{"a", "b"} {
		_, code, message := call(b, b.controller.ControllerPublishVolume, &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: node, VolumeCapability: raw(anyWriter)})
		if code != want {
			t.Errorf("publishing for several nodes: %s %s", code, message)
		}
	}
	validated := answered(b, b.controller.ValidateVolumeCapabilities, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: id, VolumeCapabilities: []*csi.VolumeCapability{raw(anyWriter)}})
	if confirmed := validated.GetConfirmed() != nil; confirmed != shared {
		t.Errorf("shared: %t, confirmed: %t, %s", shared, confirmed, validated.GetMessage())
	}
}

// TestSharedCapacity: there is room for shared volumes where the class allows them.
func TestSharedCapacity(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Block}})
	r := &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{raw(anyWriter)}, Parameters: map[string]string{"pool": "p", parameterRawShared: "true"}}
	if has := answered(b, b.controller.GetCapacity, r); has.GetAvailableCapacity() == 0 {
		t.Error("a class that allows sharing has no room")
	}
	delete(r.Parameters, parameterRawShared)
	if _, code, message := call(b, b.controller.GetCapacity, r); code != codes.InvalidArgument || !strings.Contains(message, "rawReadWriteMany") {
		t.Errorf("a class that does not: %s %s", code, message)
	}
}
