package oncrpc

import (
	"errors"
	"fmt"
	"io"
)

// ErrCall says that a message is not a well-formed call.
var ErrCall = errors.New("malformed call")

// Accept states with which a call is refused (RFC 5531, section 9).
const (
	ProgramUnavailable   = 1
	ProcedureUnavailable = 3
	GarbageArguments     = 4
)

// RequestMessage is a received call. Its content is not trusted.
type RequestMessage struct {
	ID                          uint32
	Program, Version, Procedure uint32
	Arguments                   *Reader
}

// ReadMessage reads one message.
func ReadMessage(r io.Reader) ([]byte, error) { return read(r) }

// WriteMessage writes one message.
func WriteMessage(w io.Writer, body []byte) error { return write(w, body) }

// ParseCall decodes the header of a call.
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

// Reply encodes the reply to a call, with its results.
func (c RequestMessage) Reply(results []byte) []byte {
	return append(Numbers(c.ID, messageReply, accepted, authNone, 0, success), results...)
}

// Refuse encodes the reply to a call that is not served, with an accept state.
func (c RequestMessage) Refuse(state uint32) []byte {
	return Numbers(c.ID, messageReply, accepted, authNone, 0, state)
}

// Callback encodes a call from the server to a client, without arguments.
func Callback(id, program, version, procedure uint32) []byte {
	return Numbers(id, messageCall, rpcVersion, program, version, procedure, authNone, 0, authNone, 0)
}
