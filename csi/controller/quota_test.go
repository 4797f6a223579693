package controller

import (
	"context"
	"errors"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/internal/testbed"
	"github.com/atoll-storage/atoll/csi/quota"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// limiter records the limits that it is asked for. Real quotas are in tests/quota.
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

// TestQuotaFirst: no call to create or expand a volume succeeds before its size is enforced.
func TestQuotaFirst(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"}, entry.Entry{Pool: "whole", Layouts: []schema.Layout{schema.Single}})
	request := newRequest("v", 1<<20, map[string]string{"pool": "p"})
	answer := testbed.MustCall(b.Bed, b.server.CreateVolume, request)
	if mode := answer.GetVolume().GetVolumeContext()[quota.ContextKey]; mode != string(quota.ModeAdvisory) {
		t.Errorf("mode without agents: %q", mode)
	}
	l := &limiter{err: errors.New("brick 1 does not answer"), limits: map[string]int64{}}
	b.server.config.Quota = l
	if _, code, message := testbed.Call(b.Bed, b.server.CreateVolume, request); code != codes.Unavailable {
		t.Errorf("created without the limit: %s %s", code, message)
	}
	l.err = nil
	answer = testbed.MustCall(b.Bed, b.server.CreateVolume, request)
	id := answer.GetVolume().GetVolumeId()
	if mode := answer.GetVolume().GetVolumeContext()[quota.ContextKey]; mode != string(quota.ModeEnforced) ||
		len(l.limits) != 1 {
		t.Errorf("mode %q, limits %v", mode, l.limits)
	}
	expand := &csi.ControllerExpandVolumeRequest{
		VolumeId:      id,
		CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 20},
	}
	l.err = errors.New("brick 1 does not answer")
	if _, code, _ := testbed.Call(b.Bed, b.server.ControllerExpandVolume, expand); code != codes.Unavailable {
		t.Errorf("expanded without the limit: %s", code)
	}
	l.err = nil
	testbed.MustCall(b.Bed, b.server.ControllerExpandVolume, expand)
	for folder, bytes := range l.limits {
		if bytes != 2<<20 {
			t.Errorf("the limit of %s is %d bytes", folder, bytes)
		}
	}
	testbed.MustCall(b.Bed, b.server.CreateVolume, newRequest("w", 1<<20, map[string]string{"pool": "whole"}))
	if len(l.limits) != 1 {
		t.Errorf("a whole pool has a limit: %v", l.limits)
	}
}

// TestExpandOvercommitted: the overcommit of the class with which a volume was created decides
// how far it can be expanded.
func TestExpandOvercommitted(t *testing.T) {
	b := newBed(t, entry.Entry{Pool: "p"})
	capacity := testbed.MustCall(b.Bed, b.server.GetCapacity,
		&csi.GetCapacityRequest{Parameters: map[string]string{"pool": "p"}})
	more := capacity.GetAvailableCapacity() * 3 / 2
	for name, test := range map[string]struct {
		parameters map[string]string
		code       codes.Code
	}{
		"v1": {map[string]string{"pool": "p"}, codes.ResourceExhausted},
		"v2": {map[string]string{"pool": "p", "overcommit": "100"}, codes.OK},
	} {
		answer := testbed.MustCall(b.Bed, b.server.CreateVolume, newRequest(name, 1<<20, test.parameters))
		r := &csi.ControllerExpandVolumeRequest{
			VolumeId:      answer.GetVolume().GetVolumeId(),
			CapacityRange: &csi.CapacityRange{RequiredBytes: more},
		}
		if _, code, message := testbed.Call(b.Bed, b.server.ControllerExpandVolume, r); code != test.code {
			t.Errorf("%s: %s %s", name, code, message)
		}
	}
}
