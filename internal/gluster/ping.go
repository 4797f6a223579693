package gluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// Programs of a brick (GlusterFS 10: rpc/rpc-lib/src/protocol-common.h).
const (
	dumpProgram, dumpVersion, dump = 123451501, 1, 1
	fopProgram                     = 1298437 // file operations
	maxPrograms                    = 64      // more than any server has
)

// ErrNotBrick says that the server at an address is not a brick.
var ErrNotBrick = errors.New("the server there is not a brick")

// Ping requests the list of a server's programs, as a client does first. A started brick
// lists the program for file operations; a process that only listens does not answer.
func Ping(ctx context.Context, address string) error {
	r, err := oncrpc.Call(ctx, address, dumpProgram, dumpVersion, dump, oncrpc.Numbers(0, 0))
	if err != nil {
		return fmt.Errorf("ping the brick at %s: %w", address, err)
	}
	_, _, result, _ := r.Number(), r.Number(), int32(r.Number()), r.Number() // an ID of 64 bits, result, errno
	for range maxPrograms {
		if r.Number() != 1 || r.Err() != nil || result < 0 {
			break
		}
		r.Bytes() // its name
		high, low := r.Number(), r.Number()
		if high == 0 && low == fopProgram {
			return nil
		}
		r.Number() // its version, 64 bits
		r.Number()
	}
	return fmt.Errorf("%w: %s", ErrNotBrick, address)
}
