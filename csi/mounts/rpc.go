package mounts

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/socket"
	"github.com/atoll-storage/atoll/schema"
)

// The mount holder keeps the clients of a node in a process of its own, so that
// the node plugin can be restarted and replaced under running pods. The plugin
// asks it, over a unix socket, for the folder of a pool, or the device of a block volume.
// It names a pool and a layout or a volume and nothing else: the holder reads the catalog
// itself.

// rootRequest asks for the folder of a pool.
type rootRequest struct {
	Pool   string        `json:"pool"`
	Layout schema.Layout `json:"layout"`
}

// rootAnswer is the folder.
type rootAnswer struct {
	Path string `json:"path"`
}

const (
	service    = "atoll.mounts.v1.Holder"
	methodRoot = "/" + service + "/Root"
	codecName  = "atoll-json"
)

// codec writes the service's messages as JSON: there are few, and no other program
// speaks to it.
type codec struct{}

func (codec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (codec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
func (codec) Name() string                       { return codecName }

func init() { encoding.RegisterCodec(codec{}) }

// Server answers for a node's clients.
type Server struct {
	Catalog catalog.Folder
	Clients *Clients
	Devices *blockdev.Manager // nil: no block volumes
}

// root answers with the folder of a pool.
func (h *Server) root(ctx context.Context, r *rootRequest) (*rootAnswer, error) {
	p, err := h.Catalog.Pool(r.Pool)
	if err != nil {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	path, err := h.Clients.Root(ctx, p, r.Layout)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &rootAnswer{path}, nil
}

// description is what a protocol compiler would write.
var description = grpc.ServiceDesc{
	ServiceName: service, HandlerType: (*any)(nil),
	Methods: append(blockMethods(), grpc.MethodDesc{
		MethodName: "Root",
		Handler: func(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			r := &rootRequest{}
			if err := decode(r); err != nil {
				return nil, err
			}
			return server.(*Server).root(ctx, r)
		},
	}),
}

// Serve answers on a unix socket that only root can use, until the context ends.
func (h *Server) Serve(ctx context.Context, path string) error {
	s := grpc.NewServer()
	s.RegisterService(&description, h)
	return socket.Serve(ctx, s, path)
}

// Remote asks a holder.
type Remote struct{ conn *grpc.ClientConn }

// Dial prepares the connection to a holder's socket. The holder need not be there
// yet.
func Dial(path string) (*Remote, error) {
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.CallContentSubtype(codecName), grpc.WaitForReady(true)),
		// The holder is on this machine: when it is back, it is to be found at once.
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}}))
	if err != nil {
		return nil, fmt.Errorf("connecting to the mount holder: %w", err)
	}
	return &Remote{conn}, nil
}

// Close closes the connection.
func (r *Remote) Close() error { return r.conn.Close() }

// remoteLimit is how long the holder may take; starting a client is within it.
const remoteLimit = startLimit + aliveLimit

// Root asks for the folder of a pool.
func (r *Remote) Root(ctx context.Context, p catalog.Pool, layout schema.Layout) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, remoteLimit)
	defer cancel()
	var answer rootAnswer
	err := r.conn.Invoke(ctx, methodRoot, &rootRequest{p.Pool, layout}, &answer)
	switch status.Code(err) {
	case codes.OK:
		return answer.Path, nil
	case codes.NotFound:
		return "", answered{catalog.ErrNoPool, status.Convert(err).Message()}
	case codes.DeadlineExceeded:
		return "", fmt.Errorf("%w: the mount holder does not answer; is the pod of DaemonSet atoll-csi-mounter running on this node? %w", ErrUnreachable, err)
	}
	return "", answered{ErrUnreachable, status.Convert(err).Message()}
}

// answered is an error of the holder's, whose text is whole.
type answered struct {
	is   error
	text string
}

func (a answered) Error() string { return a.text }
func (a answered) Unwrap() error { return a.is }
