// Package rpc is what the CSI services share, below their handlers: checks of requests,
// the lock of a volume, and the interceptor that gives every call its deadline, lock, log
// line and gRPC code.
package rpc

import (
	"errors"
	"fmt"
)

// Errors of the services themselves. Code maps them, and those of the packages below, to
// gRPC codes.
var (
	ErrInvalid     = errors.New("invalid request")
	ErrOutOfRange  = errors.New("size out of range")
	ErrBusy        = errors.New("another call for this volume is in progress; retry")
	ErrConflict    = errors.New("incompatible with existing use")
	ErrUnknownNode = errors.New("no such node with this driver")
	ErrNoQuota     = errors.New("quota not enforced yet; retry")
	ErrReading     = errors.New("the pool's records are still being read after a start; retry")
	ErrNoAnswer    = errors.New("the volume does not answer; check the bricks, and restart the pod if they are up")
)

// Invalid returns an ErrInvalid that says what is wrong with a request, and what to do.
func Invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}
