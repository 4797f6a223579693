package driver

import (
	"context"
	"errors"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// limiter notes what it is asked for. Real quotas are in tests/quota.
type limiter struct {
	err    error
	limits map[string]int64
}

func (l *limiter) Limit(_ context.Context, _ catalog.Pool, folder string, bytes int64) (quota.Mode, error) {
	if l.err != nil {
		return "", l.err
	}
	l.limits[folder] = bytes
	return quota.ModeEnforced, nil
}

// TestQuota holds that no volume is handed out, and none is larger, before it is
// held to its size.
func TestQuota(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"}, entry.Entry{Pool: "whole", Layouts: []schema.Layout{schema.Single}})
	request := createRequest("v", 1<<20, map[string]string{"pool": "p"})
	answer := answered(b, b.controller.CreateVolume, request)
	if mode := answer.GetVolume().GetVolumeContext()[quota.ContextKey]; mode != string(quota.ModeAdvisory) {
		t.Errorf("without agents a volume says %q", mode)
	}
	l := &limiter{err: errors.New("brick 1 is away"), limits: map[string]int64{}}
	b.d.Quota = l
	if _, code, message := call(b, b.controller.CreateVolume, request); code != codes.Unavailable {
		t.Errorf("a volume was handed out without its limit: %s %s", code, message)
	}
	l.err = nil
	answer = answered(b, b.controller.CreateVolume, request)
	id := answer.GetVolume().GetVolumeId()
	if mode := answer.GetVolume().GetVolumeContext()[quota.ContextKey]; mode != string(quota.ModeEnforced) || len(l.limits) != 1 {
		t.Errorf("mode %q, limits %v", mode, l.limits)
	}
	expand := &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 20}}
	l.err = errors.New("brick 1 is away")
	if _, code, _ := call(b, b.controller.ControllerExpandVolume, expand); code != codes.Unavailable {
		t.Errorf("expanding without the limit: %s", code)
	}
	l.err = nil
	answered(b, b.controller.ControllerExpandVolume, expand)
	for folder, bytes := range l.limits {
		if bytes != 2<<20 {
			t.Errorf("%s is held to %d bytes", folder, bytes)
		}
	}
	answered(b, b.controller.CreateVolume, createRequest("w", 1<<20, map[string]string{"pool": "whole"}))
	if len(l.limits) != 1 {
		t.Errorf("the whole pool is limited: %v", l.limits)
	}
}

// TestExpandOvercommitted holds that a volume may grow by the rule of the class that
// it was made with.
func TestExpandOvercommitted(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	capacity := answered(b, b.controller.GetCapacity, &csi.GetCapacityRequest{Parameters: map[string]string{"pool": "p"}})
	more := capacity.GetAvailableCapacity() * 3 / 2
	for name, test := range map[string]struct {
		parameters map[string]string
		code       codes.Code
	}{
		"v1": {map[string]string{"pool": "p"}, codes.ResourceExhausted},
		"v2": {map[string]string{"pool": "p", "overcommit": "100"}, codes.OK},
	} {
		answer := answered(b, b.controller.CreateVolume, createRequest(name, 1<<20, test.parameters))
		r := &csi.ControllerExpandVolumeRequest{VolumeId: answer.GetVolume().GetVolumeId(), CapacityRange: &csi.CapacityRange{RequiredBytes: more}}
		if _, code, message := call(b, b.controller.ControllerExpandVolume, r); code != test.code {
			t.Errorf("%s: %s %s", name, code, message)
		}
	}
}
