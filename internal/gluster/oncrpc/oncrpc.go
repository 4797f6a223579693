// Package oncrpc implements the part of ONC RPC (RFC 5531) and XDR (RFC 4506), over TCP and
// unix sockets, that GlusterFS uses. Received data is not trusted.
package oncrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// Numbers of RFC 5531.
const (
	messageCall  = 0
	messageReply = 1
	rpcVersion   = 2
	authNone     = 0
	accepted     = 0
	success      = 0
	lastFragment = 1 << 31
)

// maxReply is the largest reply that is read, in bytes: a volfile of some thousand bricks.
const maxReply = 4 << 20

// maxFragments bounds the number of a reply's fragments.
const maxFragments = 1024

// ErrReply says that a reply is malformed, or refuses the call.
var ErrReply = errors.New("invalid reply")

// Call makes one call on a new connection and returns the results. The context bounds all
// of it. The address is host:port, or the absolute path of a unix socket.
func Call(ctx context.Context, address string, program, version, procedure uint32, arguments []byte) (*Reader, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if deadline, limited := ctx.Deadline(); limited {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	const xid = 1 // the only call of the connection
	header := Numbers(xid, messageCall, rpcVersion, program, version, procedure, authNone, 0, authNone, 0)
	if err := write(conn, append(header, arguments...)); err != nil {
		return nil, err
	}
	body, err := read(conn)
	if err != nil {
		return nil, err
	}
	return reply(body, xid)
}

func write(w io.Writer, body []byte) error {
	record := binary.BigEndian.AppendUint32(nil, lastFragment|uint32(len(body)))
	_, err := w.Write(append(record, body...))
	return err
}

// read joins the fragments of one record.
func read(r io.Reader) ([]byte, error) {
	var body []byte
	for range maxFragments {
		var mark [4]byte
		if _, err := io.ReadFull(r, mark[:]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint32(mark[:])
		size := int(n &^ lastFragment)
		if len(body)+size > maxReply {
			return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrReply, maxReply)
		}
		fragment := make([]byte, size)
		if _, err := io.ReadFull(r, fragment); err != nil {
			return nil, err
		}
		body = append(body, fragment...)
		if n&lastFragment != 0 {
			return body, nil
		}
	}
	return nil, fmt.Errorf("%w: it has more than %d fragments", ErrReply, maxFragments)
}

// reply checks the header and returns a reader of the results.
func reply(body []byte, xid uint32) (*Reader, error) {
	r := &Reader{rest: body}
	if got := r.Number(); got != xid && r.err == nil {
		return nil, fmt.Errorf("%w: it belongs to call %d", ErrReply, got)
	}
	kind, state := r.Number(), r.Number()
	r.Number() // flavor of the verifier
	r.Bytes()  // body of the verifier
	how := r.Number()
	if r.err != nil {
		return nil, r.err
	}
	if kind != messageReply || state != accepted || how != success {
		return nil, fmt.Errorf("%w: the call was refused (%d, %d, %d)", ErrReply, kind, state, how)
	}
	return r, nil
}

// Numbers encodes unsigned integers.
func Numbers(values ...uint32) []byte {
	var out []byte
	for _, v := range values {
		out = binary.BigEndian.AppendUint32(out, v)
	}
	return out
}

// Bytes encodes opaque data or a string of variable length.
func Bytes(data []byte) []byte {
	out := append(Numbers(uint32(len(data))), data...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

// Reader decodes XDR. After an error it returns zero values; Err returns the error.
type Reader struct {
	rest []byte
	err  error
}

// NewReader decodes data.
func NewReader(data []byte) *Reader { return &Reader{rest: data} }

// Take reads n bytes as they are, without padding.
func (r *Reader) Take(n int) []byte { return r.take(n) }

// Err is the first error.
func (r *Reader) Err() error { return r.err }

// Number decodes an unsigned integer.
func (r *Reader) Number() uint32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}

// Bytes decodes opaque data or a string of variable length.
func (r *Reader) Bytes() []byte {
	n := int(r.Number())
	padded := (n + 3) &^ 3
	b := r.take(padded)
	if b == nil {
		return nil
	}
	return b[:n]
}

func (r *Reader) take(n int) []byte {
	if r.err == nil && (n < 0 || n > len(r.rest)) {
		r.err = fmt.Errorf("%w: %d bytes are missing", ErrReply, n-len(r.rest))
	}
	if r.err != nil {
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}
