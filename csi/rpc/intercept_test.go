package rpc

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/go-logr/logr/funcr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// newInterceptor returns an interceptor and what it logs.
func newInterceptor() (*Interceptor, *strings.Builder) {
	var log strings.Builder
	return NewInterceptor(funcr.New(func(prefix, args string) { log.WriteString(prefix + args + "\n") },
		funcr.Options{Verbosity: 9}), &Locks{}), &log
}

func intercept(i *Interceptor, request any, handle grpc.UnaryHandler) error {
	_, err := i.Intercept(context.Background(), request, &grpc.UnaryServerInfo{FullMethod: "/test"}, handle)
	return err
}

func succeed(context.Context, any) (any, error) { return nil, nil }

// TestSecretsAreNotLogged: neither secrets nor tokens of a request are logged (CVE-2023-2878,
// CVE-2024-3744), whether the call succeeds or fails.
func TestSecretsAreNotLogged(t *testing.T) {
	fail := func(context.Context, any) (any, error) { return nil, ErrConflict }
	for name, handle := range map[string]grpc.UnaryHandler{"success": succeed, "failure": fail} {
		i, log := newInterceptor()
		_ = intercept(i, &csi.CreateVolumeRequest{Name: "v", Secrets: map[string]string{"password": "hunter2"}}, handle)
		_ = intercept(i, &csi.NodePublishVolumeRequest{
			VolumeId: "v1.dir.p.v", Secrets: map[string]string{"a": "hunter2"},
			VolumeContext: map[string]string{
				"csi.storage.k8s.io/serviceAccount.tokens": "hunter2",
				"csi.storage.k8s.io/pod.name":              "pod-1",
			},
		}, handle)
		if strings.Contains(log.String(), "hunter2") || !strings.Contains(log.String(), "pod-1") {
			t.Errorf("%s logs:\n%s", name, log)
		}
	}
}

func TestPanicBecomesInternalError(t *testing.T) {
	i, log := newInterceptor()
	err := intercept(i, &csi.DeleteVolumeRequest{VolumeId: "v1.dir.p.v"},
		func(context.Context, any) (any, error) { panic("oh") })
	if status.Code(err) != codes.Internal || !strings.Contains(log.String(), "call panicked") {
		t.Errorf("%v, %s", err, log)
	}
	if err := intercept(i, &csi.DeleteVolumeRequest{VolumeId: "v1.dir.p.v"}, succeed); err != nil {
		t.Errorf("the volume is still locked: %v", err)
	}
}

// TestCallsLockTheirVolume lists which requests exclude each other.
func TestCallsLockTheirVolume(t *testing.T) {
	const id, snapshot = "v1.dir.p.v", "v1.snapshot.p.v"
	for _, test := range []struct {
		first, second any
		busy          bool
	}{
		{&csi.CreateVolumeRequest{Name: "v"}, &csi.CreateVolumeRequest{Name: "v"}, true},
		{&csi.CreateVolumeRequest{Name: "v"}, &csi.CreateVolumeRequest{Name: "w"}, false},
		{&csi.CreateVolumeRequest{Name: "v"}, &csi.DeleteVolumeRequest{VolumeId: id}, true},
		{&csi.DeleteVolumeRequest{VolumeId: id}, &csi.ControllerExpandVolumeRequest{VolumeId: id}, true},
		{&csi.DeleteVolumeRequest{VolumeId: id}, &csi.ControllerModifyVolumeRequest{VolumeId: id}, true},
		{&csi.DeleteVolumeRequest{VolumeId: id}, &csi.ControllerGetVolumeRequest{VolumeId: id}, false},
		{&csi.DeleteVolumeRequest{VolumeId: "none"}, &csi.DeleteVolumeRequest{VolumeId: "none"}, false},
		{&csi.CreateSnapshotRequest{Name: "v"}, &csi.DeleteSnapshotRequest{SnapshotId: snapshot}, true},
		{&csi.CreateSnapshotRequest{Name: "v"}, &csi.CreateVolumeRequest{Name: "v"}, false},
		{&csi.DeleteVolumeRequest{VolumeId: id}, &csi.NodeStageVolumeRequest{VolumeId: id}, false},
		{&csi.NodeStageVolumeRequest{VolumeId: id}, &csi.NodeUnstageVolumeRequest{VolumeId: id}, true},
		{&csi.NodePublishVolumeRequest{VolumeId: id}, &csi.NodeUnpublishVolumeRequest{VolumeId: id}, true},
		{&csi.NodePublishVolumeRequest{VolumeId: id}, &csi.NodeExpandVolumeRequest{VolumeId: id}, false},
		{
			&csi.NodePublishVolumeRequest{VolumeId: "v1.block.p.v"},
			&csi.NodeExpandVolumeRequest{VolumeId: "v1.block.p.v"}, true,
		},
	} {
		i, _ := newInterceptor()
		var second error
		err := intercept(i, test.first, func(context.Context, any) (any, error) {
			second = intercept(i, test.second, succeed)
			return nil, nil
		})
		want := codes.OK
		if test.busy {
			want = codes.Aborted
		}
		if err != nil || status.Code(second) != want {
			t.Errorf("%T %v, then %T %v: %v", test.first, test.first, test.second, test.second, second)
		}
		if err := intercept(i, test.second, succeed); err != nil {
			t.Errorf("%T: still locked: %v", test.second, err)
		}
	}
}

// TestWrappedErrorsHaveCodes: the code is that of the wrapped error, and the message is whole.
func TestWrappedErrorsHaveCodes(t *testing.T) {
	i, _ := newInterceptor()
	err := intercept(i, nil, func(context.Context, any) (any, error) {
		return nil, fmt.Errorf("pool p: %w", ErrReading)
	})
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "pool p: ") {
		t.Error(err)
	}
}
