package controller

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/internal/testbed"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/topology"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// TestParameters lists what a hand-written class may say. Every refusal says what to write
// instead.
func TestParameters(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"}, entry.Entry{Pool: "whole", Layouts: []schema.Layout{schema.Single}})
	for _, test := range []struct {
		parameters map[string]string
		code       codes.Code
		message    string
	}{
		{map[string]string{"pool": "p", "csi.storage.k8s.io/pvc/name": "x"}, codes.OK, ""},
		{
			map[string]string{"pool": "p", "layout": "Subdirectory", "reclaim": "Archive", "overcommit": "1.5"},
			codes.OK,
			"",
		},
		{map[string]string{}, codes.InvalidArgument, "set the parameter pool or poolSelector"},
		// the KeyError of a hand-written class
		{map[string]string{"storage_name": "p"}, codes.InvalidArgument, "storage_name"},
		{map[string]string{"pool": "none"}, codes.NotFound, "is it applied"},
		{map[string]string{"pool": "../p"}, codes.NotFound, "is not a pool's name"},
		{map[string]string{"pool": "p", "layout": "Single"}, codes.InvalidArgument, "no pool fits"},
		{map[string]string{"pool": "p", "layout": "Block"}, codes.InvalidArgument, "no pool fits"},
		{map[string]string{"pool": "p", "reclaim": "Keep"}, codes.InvalidArgument, "Delete, Archive or Retain"},
		{map[string]string{"pool": "p", "recovery": "Delete"}, codes.InvalidArgument, "set Evict or Tell"},
		{map[string]string{"pool": "p", "overcommit": "0.5"}, codes.InvalidArgument, "from 1"},
		{map[string]string{"pool": "p", "overcommit": "NaN"}, codes.InvalidArgument, "from 1"},
		{map[string]string{"poolSelector": "type"}, codes.InvalidArgument, "type=Replica3"},
		{map[string]string{"poolSelector": "type=Disperse"}, codes.InvalidArgument, "no pool fits"},
	} {
		_, code, message := b.create(newRequest(fmt.Sprint("v", test.parameters), 1<<20, test.parameters))
		if code != test.code || !strings.Contains(message, test.message) {
			t.Errorf("%v: %s %s", test.parameters, code, message)
		}
	}
}

// TestRecoveryIsRecorded: what a class says of pods that lose a volume is on the PersistentVolume, as the
// controller that evicts them reads it; also after a repeated request.
func TestRecoveryIsRecorded(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	for recovery, parameters := range map[string]map[string]string{
		"": {"pool": "p"}, "Tell": {"pool": "p", "recovery": "Tell"}, "Evict": {"pool": "p", "recovery": "Evict"},
	} {
		for range 2 {
			r := testbed.MustCall(b.Bed, b.server.CreateVolume, newRequest("v"+recovery, 1<<20, parameters))
			if got := r.GetVolume().GetVolumeContext()["recovery"]; got != recovery {
				t.Errorf("recovery %q is recorded as %q", recovery, got)
			}
		}
	}
}

func TestCreateRequests(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	for name, test := range map[string]struct {
		change func(*csi.CreateVolumeRequest)
		code   codes.Code
	}{
		"no name":      {func(r *csi.CreateVolumeRequest) { r.Name = "" }, codes.InvalidArgument},
		"long name":    {func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("n", 129) }, codes.InvalidArgument},
		"hostile name": {func(r *csi.CreateVolumeRequest) { r.Name = "../../etc" }, codes.OK},
		"block": {func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0].AccessType = &csi.VolumeCapability_Block{}
		}, codes.InvalidArgument},
		"mount option": {func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities[0] = testbed.Mounted(testbed.ReadWriteMany, "sync")
		}, codes.InvalidArgument},
		"file system": {
			func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities[0].GetMount().FsType = "xfs" },
			codes.InvalidArgument,
		},
		"negative size": {
			func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = -1 },
			codes.InvalidArgument,
		},
		"limit too low": {func(r *csi.CreateVolumeRequest) { r.CapacityRange.LimitBytes = 1 }, codes.OutOfRange},
		"overflow": {
			func(r *csi.CreateVolumeRequest) { r.CapacityRange.RequiredBytes = 1 << 62 },
			codes.OutOfRange,
		},
		"unknown source": {
			func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} },
			codes.InvalidArgument,
		},
		"other topology": {func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{
				Requisite: []*csi.Topology{{Segments: map[string]string{"csi.atoll.storage/driver": "absent"}}},
			}
		}, codes.ResourceExhausted},
		"this topology": {func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{topology.Everywhere()}}
		}, codes.OK},
		"too large": {
			func(r *csi.CreateVolumeRequest) { r.Name = "large"; r.CapacityRange.RequiredBytes = 1 << 59 },
			codes.ResourceExhausted,
		},
	} {
		r := newRequest("v", 1<<20, map[string]string{"pool": "p"})
		test.change(r)
		if _, code, message := b.create(r); code != test.code {
			t.Errorf("%s: %s %s", name, code, message)
		}
	}
	if entries, err := os.ReadDir(b.Mounts.Dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the pool: %v, %v", entries, err)
	}
}

// TestBrokenPoolAffectsOnlyItself: requests for other pools succeed.
func TestBrokenPoolAffectsOnlyItself(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "good"}, entry.Entry{Pool: "bad"})
	if _, err := b.Pools.Catalog.Write("bad", map[string]string{entry.KeyEntry: "{"}); err != nil {
		t.Fatal(err)
	}
	b.mustCreate(newRequest("a", 1<<20, map[string]string{"pool": "good"}))
	b.mustCreate(newRequest("b", 1<<20, map[string]string{"poolSelector": "type=Replica1"}))
	if _, code, _ := b.create(newRequest("c", 1<<20, map[string]string{"pool": "bad"})); code != codes.Unavailable {
		t.Errorf("the broken pool: %s", code)
	}
	b.Mounts.Err = fmt.Errorf("%w: brick 2 does not answer", mounts.ErrUnreachable)
	_, code, message := b.create(newRequest("d", 1<<20, map[string]string{"pool": "good"}))
	if code != codes.Unavailable || !strings.Contains(message, "brick 2 does not answer") {
		t.Errorf("%s %s", code, message)
	}
	health := testbed.MustCall(b.Bed, b.server.ControllerGetVolumeHealth,
		&csi.ControllerGetVolumeHealthRequest{VolumeId: "v1.dir.good.a"})
	if s := health.GetVolumeHealth().GetHealthStatuses(); len(s) != 1 || s[0].GetReason() != "PoolUnreachable" {
		t.Errorf("health %v", health)
	}
}

// TestRepeatedRequestFindsItsVolume: another pool has more free space by then.
func TestRepeatedRequestFindsItsVolume(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "a"}, entry.Entry{Pool: "b"})
	request := newRequest("v", 1<<20, map[string]string{"pool": "a,b"})
	first := b.mustCreate(request)
	b.mustCreate(newRequest("filler", 1<<30, map[string]string{"pool": strings.Split(first, ".")[2]}))
	if second := b.mustCreate(request); second != first {
		t.Errorf("first %s, then %s", first, second)
	}
}

// TestRepeatedRequestWaitsForItsPool: a volume whose creation was begun in a pool that became
// unreachable is not created in another pool too.
func TestRepeatedRequestWaitsForItsPool(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "a"}, entry.Entry{Pool: "b"})
	request := newRequest("v", 1<<20, map[string]string{"pool": "a,b"})
	b.server.begun.Store("v", "a") // as an interrupted creation leaves it
	b.Mounts.Down = map[string]error{"a": fmt.Errorf("%w: for now", mounts.ErrUnreachable)}
	if _, code, message := b.create(request); code != codes.Unavailable ||
		!strings.Contains(message, "pool a, in which an earlier call began") {
		t.Errorf("%s %s", code, message)
	}
	b.mustCreate(newRequest("other", 1<<20, map[string]string{"pool": "a,b"}))
	b.Mounts.Down = nil
	if id := b.mustCreate(request); id != "v1.dir.a.v" {
		t.Errorf("created as %s", id)
	}
	if _, begun := b.server.begun.Load("v"); begun {
		t.Error("it still counts as begun")
	}
}

// TestFullBesideUnreachable: a pool that cannot be reached may have space. The request is repeated, and
// the message names both pools.
func TestFullBesideUnreachable(t *testing.T) {
	whole := []schema.Layout{schema.Single}
	b := newBed(t, entry.Entry{Pool: "a", Layouts: whole}, entry.Entry{Pool: "b", Layouts: whole})
	b.mustCreate(newRequest("first", 1<<20, map[string]string{"pool": "a"}))
	b.Mounts.Down = map[string]error{"b": fmt.Errorf("%w: for now", mounts.ErrUnreachable)}
	_, code, message := b.create(newRequest("second", 1<<20, map[string]string{"pool": "a,b"}))
	if code != codes.Unavailable || !strings.Contains(message, "for now") || !strings.Contains(message, "pool a") {
		t.Errorf("%s %s", code, message)
	}
}

// TestWholePoolIsTakenOnce: the error of a second claim names the first.
func TestWholePoolIsTakenOnce(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p", Layouts: []schema.Layout{schema.Single}})
	b.mustCreate(newRequest("first", 1<<20, map[string]string{"pool": "p"}))
	_, code, message := b.create(newRequest("second", 1<<20, map[string]string{"pool": "p"}))
	if code != codes.ResourceExhausted || !strings.Contains(message, "first") {
		t.Errorf("%s %s", code, message)
	}
}
