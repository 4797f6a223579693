package mounts

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
)

// Methods of the service for block volumes.
const (
	methodAttach    = "Attach"
	methodDetach    = "Detach"
	methodFormatted = "Formatted"
	methodGrow      = "Grow"
	methodLost      = "Lost"
)

// blockRequest names a volume; FileSystem is for Formatted.
type blockRequest struct {
	Pool       string `json:"pool,omitempty"`
	Name       string `json:"name,omitempty"`
	FileSystem string `json:"fileSystem,omitempty"`
}

// blockAnswer is the device that a volume has, or what went wrong.
type blockAnswer struct {
	Device blockdev.Device `json:"device,omitzero"`
	Lost   []blockdev.Lost `json:"lost,omitempty"`
	Kind   string          `json:"kind,omitempty"` // see kinds
	Error  string          `json:"error,omitempty"`
}

// kinds are the errors that callers tell apart.
var kinds = map[string]error{
	"in use": backend.ErrInUse, "no volume": backend.ErrNotFound, "record": backend.ErrRecord, "no pool": catalog.ErrNoPool,
	"busy": blockdev.ErrBusy, "open": blockdev.ErrOpen, "lost": blockdev.ErrLost, "not attached": blockdev.ErrOther,
	"unreachable": ErrUnreachable,
}

func (h *Server) block(ctx context.Context, method string, r *blockRequest) (*blockAnswer, error) {
	if h.Devices == nil {
		return nil, status.Error(codes.Unimplemented, "this mount holder has no block volumes")
	}
	answer := &blockAnswer{}
	if err := h.doBlock(ctx, method, r, answer); err != nil {
		answer.Error = err.Error()
		for kind, is := range kinds {
			if errors.Is(err, is) {
				answer.Kind = kind
			}
		}
	}
	return answer, nil
}

func (h *Server) doBlock(ctx context.Context, method string, r *blockRequest, answer *blockAnswer) (err error) {
	switch method {
	case methodAttach:
		answer.Device, err = h.Devices.Attach(ctx, r.Pool, r.Name)
	case methodDetach:
		return h.Devices.Detach(ctx, r.Pool, r.Name)
	case methodFormatted:
		return h.Devices.Formatted(ctx, r.Pool, r.Name, r.FileSystem)
	case methodGrow:
		answer.Device, err = h.Devices.Grow(ctx, r.Pool, r.Name)
	default:
		answer.Lost, err = h.Devices.Lost(ctx)
	}
	return err
}

// blockMethods are what a protocol compiler would write.
func blockMethods() []grpc.MethodDesc {
	var all []grpc.MethodDesc
	for _, name := range []string{methodAttach, methodDetach, methodFormatted, methodGrow, methodLost} {
		all = append(all, grpc.MethodDesc{
			MethodName: name,
			Handler: func(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				r := &blockRequest{}
				if err := decode(r); err != nil {
					return nil, err
				}
				return server.(*Server).block(ctx, name, r)
			},
		})
	}
	return all
}

func (r *Remote) block(ctx context.Context, method string, request blockRequest) (*blockAnswer, error) {
	answer := &blockAnswer{}
	err := r.conn.Invoke(ctx, "/"+service+"/"+method, &request, answer)
	switch {
	case status.Code(err) == codes.DeadlineExceeded:
		return nil, fmt.Errorf("%w: the mount holder does not answer; is the pod of DaemonSet atoll-csi-mounter running on this node? %w", ErrUnreachable, err)
	case err != nil:
		return nil, answered{ErrUnreachable, status.Convert(err).Message()}
	case answer.Error != "":
		return nil, answered{kinds[answer.Kind], answer.Error}
	}
	return answer, nil
}

// Attach takes a volume for this node: see devices.Holder.
func (r *Remote) Attach(ctx context.Context, pool, name string) (blockdev.Device, error) {
	answer, err := r.block(ctx, methodAttach, blockRequest{Pool: pool, Name: name})
	if err != nil {
		return blockdev.Device{}, err
	}
	return answer.Device, nil
}

// Detach gives a volume back.
func (r *Remote) Detach(ctx context.Context, pool, name string) error {
	_, err := r.block(ctx, methodDetach, blockRequest{Pool: pool, Name: name})
	return err
}

// Formatted notes that a file system was made on a volume.
func (r *Remote) Formatted(ctx context.Context, pool, name, fileSystem string) error {
	_, err := r.block(ctx, methodFormatted, blockRequest{pool, name, fileSystem})
	return err
}

// Grow makes a device as large as its volume is.
func (r *Remote) Grow(ctx context.Context, pool, name string) (blockdev.Device, error) {
	answer, err := r.block(ctx, methodGrow, blockRequest{Pool: pool, Name: name})
	if err != nil {
		return blockdev.Device{}, err
	}
	return answer.Device, nil
}

// Lost lists the volumes that this node has lost and that are still in use.
func (r *Remote) Lost(ctx context.Context) ([]blockdev.Lost, error) {
	answer, err := r.block(ctx, methodLost, blockRequest{})
	if err != nil {
		return nil, err
	}
	return answer.Lost, nil
}
