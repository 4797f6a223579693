package mounts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/socket"
	"github.com/atoll-storage/atoll/schema"
	entry "github.com/atoll-storage/atoll/schema/catalog"
)

// jsonCodec is the codec of mount servers and node plugins before ADR 0021.
type jsonCodec struct{}

func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
func (jsonCodec) Name() string                       { return "atoll-json" }

func init() { encoding.RegisterCodec(jsonCodec{}) }

// grpcResponse has the fields of all responses of that time.
type grpcResponse struct {
	Path   string          `json:"path,omitempty"`
	Device blockdev.Device `json:"device,omitzero"`
	grpcFailure
}

// method serves one call as a mount server of that time did.
func method(name string, response any, err error) grpc.MethodDesc {
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var r blockRequest
			if err := decode(&r); err != nil || r.Pool != "p" {
				return nil, fmt.Errorf("request %+v, %w", r, err)
			}
			return response, err
		},
	}
}

// TestServerBeforeHTTP calls a mount server that speaks gRPC.
func TestServerBeforeHTTP(t *testing.T) {
	device := blockdev.Device{Path: "/dev/loop7", Size: 1 << 30}
	path := filepath.Join(t.TempDir(), "s")
	s := grpc.NewServer()
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "atoll.mounts.v1.Holder", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{
			method("Root", grpcResponse{Path: "/mnt"}, nil),
			method("Attach", grpcResponse{Device: device}, nil),
			method("Detach", grpcResponse{grpcFailure: grpcFailure{"open", "device is open: 50 % of it"}}, nil),
			method("Formatted", nil, status.Error(codes.Unavailable, "no pool: 50 % of it")),
			method("Grow", nil, status.Error(codes.NotFound, "no entry")),
		},
	}, nil)
	go func() {
		if err := socket.Serve(t.Context(), s, path); err != nil {
			t.Error(err)
		}
	}()
	r, ctx := NewRemote(path), limited(t, 20*time.Second)
	defer r.Close()
	if root, err := r.Root(ctx, catalog.Pool{Entry: entry.Entry{Pool: "p"}}, schema.Block); err != nil ||
		root != "/mnt" {
		t.Errorf("root %q, %v", root, err)
	}
	if got, err := r.Attach(ctx, "p", "v"); err != nil || got != device {
		t.Errorf("attach %+v, %v", got, err)
	}
	if err := r.Detach(ctx, "p", "v"); !errors.Is(err, blockdev.ErrOpen) ||
		err.Error() != "device is open: 50 % of it" {
		t.Errorf("detach: %v", err)
	}
	if err := r.MarkFormatted(ctx, "p", "v", "xfs"); !errors.Is(err, ErrUnreachable) ||
		err.Error() != "no pool: 50 % of it" {
		t.Errorf("formatted: %v", err)
	}
	if _, err := r.Grow(ctx, "p", "v"); !errors.Is(err, catalog.ErrNoPool) {
		t.Errorf("grow: %v", err)
	}
	if _, err := r.Lost(ctx); !errors.Is(err, ErrUnreachable) {
		t.Errorf("lost, which it does not know: %v", err)
	}
}

// TestPluginBeforeHTTP is called by a node plugin that speaks gRPC.
func TestPluginBeforeHTTP(t *testing.T) {
	device := blockdev.Device{Path: "/dev/loop7", Size: 1 << 30}
	mux := http.NewServeMux()
	handle(mux, pathAttach, func(_ context.Context, r blockRequest) (deviceResponse, error) {
		if r.Name == "v" {
			return deviceResponse{device}, nil
		}
		return deviceResponse{}, fmt.Errorf("%w: node n-2", backend.ErrInUse)
	})
	handle(mux, pathRoot, func(_ context.Context, r rootRequest) (rootResponse, error) {
		if r.Pool == "p" {
			return rootResponse{"/mnt"}, nil
		}
		if r.Pool == "none" {
			return rootResponse{}, fmt.Errorf("%w: %s", catalog.ErrNoPool, r.Pool)
		}
		return rootResponse{}, fmt.Errorf("%w: %s", ErrUnreachable, r.Pool)
	})
	path := filepath.Join(t.TempDir(), "s")
	go func() {
		if err := serve(t.Context(), mux, path); err != nil {
			t.Error(err)
		}
	}()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.CallContentSubtype("atoll-json"), grpc.WaitForReady(true)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := limited(t, 20*time.Second)
	call := func(method string, request any) (grpcResponse, error) {
		var response grpcResponse
		err := conn.Invoke(ctx, "/atoll.mounts.v1.Holder/"+method, request, &response)
		return response, err
	}
	if a, err := call("Attach", blockRequest{Pool: "p", Name: "v"}); err != nil || a.Device != device {
		t.Errorf("attach %+v, %v", a, err)
	}
	if a, err := call("Attach", blockRequest{Pool: "p", Name: "w"}); err != nil || a.Kind != "in use" || a.Error == "" {
		t.Errorf("attach what another node has: %+v, %v", a, err)
	}
	if a, err := call("Root", rootRequest{Pool: "p"}); err != nil || a.Path != "/mnt" {
		t.Errorf("root %+v, %v", a, err)
	}
	for pool, want := range map[string]codes.Code{"none": codes.NotFound, "down": codes.Unavailable} {
		if _, err := call("Root", rootRequest{Pool: pool}); status.Code(err) != want ||
			status.Convert(err).Message() == "" {
			t.Errorf("root of pool %s: %v", pool, err)
		}
	}
	if _, err := call("Lost", blockRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a call that is not served: %v", err)
	}
}
