package rpc

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/csi/blockdev"
	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/csi/copies"
	"github.com/atoll-storage/atoll/csi/mounts"
	"github.com/atoll-storage/atoll/csi/pool"
	"github.com/atoll-storage/atoll/internal/linux/filesystem"
	"github.com/atoll-storage/atoll/schema/volumeid"
)

// errorCodes is the one place where errors become gRPC codes. The first match decides.
var errorCodes = []struct {
	err  error
	code codes.Code
}{
	{backend.ErrNotFound, codes.NotFound},
	{backend.ErrNoSnapshot, codes.NotFound},
	{ErrInvalid, codes.InvalidArgument},
	{pool.ErrLayout, codes.InvalidArgument},
	{ErrOutOfRange, codes.OutOfRange},
	{ErrBusy, codes.Aborted},
	{ErrConflict, codes.FailedPrecondition},
	{ErrUnknownNode, codes.NotFound},
	{volumeid.ErrInvalid, codes.NotFound}, // such a volume cannot exist
	{backend.ErrInUse, codes.FailedPrecondition},
	{blockdev.ErrBusy, codes.Aborted},
	{backend.ErrCopying, codes.Aborted},
	{copies.ErrSourceWritten, codes.Aborted},
	{copies.ErrPauseLimit, codes.FailedPrecondition},
	{copies.ErrShared, codes.FailedPrecondition},
	{copies.ErrNoAnswer, codes.Unavailable},
	{blockdev.ErrOpen, codes.Unavailable},
	{blockdev.ErrLost, codes.Unavailable},
	{blockdev.ErrNotAttached, codes.FailedPrecondition},
	{filesystem.ErrDamaged, codes.FailedPrecondition},
	{backend.ErrExists, codes.AlreadyExists},
	{backend.ErrExhausted, codes.ResourceExhausted},
	{unix.ENOSPC, codes.ResourceExhausted},
	{backend.ErrForeign, codes.FailedPrecondition},
	{backend.ErrRecord, codes.FailedPrecondition},
	{catalog.ErrNoPool, codes.NotFound},
	{catalog.ErrBroken, codes.Unavailable},
	{mounts.ErrUnreachable, codes.Unavailable},
	{ErrNoAnswer, codes.Unavailable},
	{ErrNoQuota, codes.Unavailable},
	{ErrReading, codes.Unavailable},
	// The pool's client has ended during the call; the next call gets a new client.
	{unix.ENOTCONN, codes.Unavailable},
	{unix.ECONNABORTED, codes.Unavailable},
	// Another process has changed the volume during the call.
	{unix.ESTALE, codes.Unavailable},
	{backend.ErrChanged, codes.Unavailable},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
	{context.Canceled, codes.Canceled},
}

// Code returns the gRPC code of an error.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	for _, c := range errorCodes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return codes.Internal
}
