package driver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/copies"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// callLimit ends calls whose caller has set no deadline.
const callLimit = 2 * time.Minute

// Errors of the services themselves.
var (
	errInvalid   = errors.New("the request cannot be understood")
	errRange     = errors.New("the size cannot be had")
	errBusy      = errors.New("another call for this volume is under way; repeat this one")
	errUnlimited = errors.New("the volume cannot be held to its size now, and is not handed out before")
	errConflict  = errors.New("the volume is in use in a way that excludes this one")
)

// invalid says what is wrong with a request, and what to do.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errInvalid, fmt.Sprintf(format, args...))
}

// codeOf is the one place where errors become gRPC codes.
func codeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	for _, c := range []struct {
		is   error
		code codes.Code
	}{
		{backend.ErrNotFound, codes.NotFound},
		{backend.ErrNoSnapshot, codes.NotFound},
		{errInvalid, codes.InvalidArgument},
		{errRange, codes.OutOfRange},
		{errBusy, codes.Aborted},
		{errConflict, codes.FailedPrecondition},
		{errNoNode, codes.NotFound},
		{volumeid.ErrInvalid, codes.NotFound}, // no such volume can be
		{backend.ErrInUse, codes.FailedPrecondition},
		{blockdev.ErrBusy, codes.Aborted},
		{backend.ErrCopying, codes.Aborted},
		{copies.ErrMoving, codes.Aborted},
		{copies.ErrPause, codes.FailedPrecondition},
		{copies.ErrShared, codes.FailedPrecondition},
		{copies.ErrSilent, codes.Unavailable},
		{blockdev.ErrOpen, codes.Unavailable},
		{blockdev.ErrLost, codes.Unavailable},
		{blockdev.ErrOther, codes.FailedPrecondition},
		{filesystem.ErrDamaged, codes.FailedPrecondition},
		{backend.ErrExists, codes.AlreadyExists},
		{backend.ErrExhausted, codes.ResourceExhausted},
		{unix.ENOSPC, codes.ResourceExhausted},
		{backend.ErrForeign, codes.FailedPrecondition},
		{backend.ErrRecord, codes.FailedPrecondition},
		{catalog.ErrNoPool, codes.NotFound},
		{catalog.ErrBroken, codes.Unavailable},
		{mounts.ErrUnreachable, codes.Unavailable},
		{errSilent, codes.Unavailable},
		{errUnlimited, codes.Unavailable},
		{errReading, codes.Unavailable},
		// The pool's client has ended under the call; the next one has another.
		{unix.ENOTCONN, codes.Unavailable},
		{unix.ECONNABORTED, codes.Unavailable},
		// Somebody else has changed the volume under the call.
		{unix.ESTALE, codes.Unavailable},
		{backend.ErrChanged, codes.Unavailable},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
	} {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	if s, is := status.FromError(err); is {
		return s.Code()
	}
	return codes.Internal
}

// intercept gives every call a deadline, a line in the log without secrets, and
// an answer with a code, also when the call panics.
func (d *Driver) intercept(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (answer any, err error) {
	if _, limited := ctx.Deadline(); !limited {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	log := d.Log.WithValues("method", info.FullMethod)
	begin := time.Now()
	defer func() {
		if p := recover(); p != nil {
			log.Error(fmt.Errorf("%v", p), "a call panicked", "stack", string(debug.Stack()))
			answer, err = nil, status.Errorf(codes.Internal, "the driver has a bug; its log says more: %v", p)
		}
	}()
	answer, err = handle(ctx, request)
	d.measure(info.FullMethod, codeOf(err), time.Since(begin))
	if err == nil {
		log.V(1).Info("answered", "request", stripped(request), "took", time.Since(begin).String())
		return answer, nil
	}
	code := codeOf(err)
	log.Info("refused", "request", stripped(request), "code", code.String(), "error", err.Error(), "took", time.Since(begin).String())
	return nil, status.Error(code, err.Error())
}

// stripped writes a request without the fields that the specification marks as
// secret, and without tokens that a kubelet may put into the context.
func stripped(request any) string {
	m, is := request.(proto.Message)
	if !is {
		return ""
	}
	c := proto.Clone(m)
	strip(c.ProtoReflect())
	return fmt.Sprint(c)
}

// tokenKeys are entries of a volume's context that hold tokens (Kubernetes,
// CSIDriver.spec.tokenRequests).
var tokenKeys = []string{"csi.storage.k8s.io/serviceAccount.tokens"}

func strip(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		secret, _ := proto.GetExtension(f.Options(), csi.E_CsiSecret).(bool)
		switch {
		case secret:
			m.Clear(f)
		case f.IsMap() && f.MapKey().Kind() == protoreflect.StringKind:
			for _, key := range tokenKeys {
				if k := protoreflect.ValueOfString(key).MapKey(); v.Map().Has(k) {
					v.Map().Clear(k)
				}
			}
		case f.Kind() == protoreflect.MessageKind && !f.IsList() && !f.IsMap():
			strip(v.Message())
		}
		return true
	})
}
