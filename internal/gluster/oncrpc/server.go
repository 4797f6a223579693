package oncrpc

import (
	"errors"
	"fmt"
	"io"
)

// ErrCall says that a message is no call that can be understood.
var ErrCall = errors.New("the call cannot be understood")

// States of an accepted call (RFC 5531, 9).
const (
	ProgramUnavailable   = 1
	ProcedureUnavailable = 3
	GarbageArguments     = 4
)

// RequestMessage is a call that was received. What it says is not trusted.
type RequestMessage struct {
	ID                          uint32
	Program, Version, Procedure uint32
	Arguments                   *Reader
}

// ReadMessage reads one message.
func ReadMessage(r io.Reader) ([]byte, error) { return read(r) }

// WriteMessage writes one message.
func WriteMessage(w io.Writer, body []byte) error { return write(w, body) }

// ParseCall reads the header of a call.
func ParseCall(body []byte) (RequestMessage, error) {
	r := &Reader{rest: body}
	c := RequestMessage{ID: r.Number()}
	kind, version := r.Number(), r.Number()
	c.Program, c.Version, c.Procedure = r.Number(), r.Number(), r.Number()
	for range 2 { // credentials and verifier
		r.Number()
		r.Bytes()
	}
	if r.err != nil {
		return c, fmt.Errorf("%w: %w", ErrCall, r.err)
	}
	if kind != messageCall || version != rpcVersion {
		return c, fmt.Errorf("%w: message %d of version %d", ErrCall, kind, version)
	}
	c.Arguments = r
	return c, nil
}

// Reply is the reply to a call, with its results.
func (c RequestMessage) Reply(results []byte) []byte {
	return append(Numbers(c.ID, messageReply, accepted, authNone, 0, success), results...)
}

// Refuse is the reply to a call that is not served: a state of an accepted call.
func (c RequestMessage) Refuse(state uint32) []byte {
	return Numbers(c.ID, messageReply, accepted, authNone, 0, state)
}

// Callback is a call of a server's own on a client's connection, without arguments.
func Callback(id, program, version, procedure uint32) []byte {
	return Numbers(id, messageCall, rpcVersion, program, version, procedure, authNone, 0, authNone, 0)
}
