package oncrpc

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// serve replies with these bytes to any request of one connection.
func serve(t *testing.T, answer []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = read(conn)
		_, _ = conn.Write(answer)
	}()
	return l.Addr().String()
}

func record(body []byte) []byte {
	var b bytes.Buffer
	_ = write(&b, body) // a buffer takes all
	return b.Bytes()
}

func call(t *testing.T, answer []byte) (*Reader, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return Call(ctx, serve(t, answer), 1, 2, 3, Bytes([]byte("abc")))
}

func TestCall(t *testing.T) {
	body := append(Numbers(1, messageReply, accepted, authNone, 0, success, 7), Bytes([]byte("hello"))...)
	r, err := call(t, record(body))
	if err != nil {
		t.Fatal(err)
	}
	if n, s := r.Number(), r.Bytes(); n != 7 || string(s) != "hello" || r.Err() != nil {
		t.Errorf("%d %q %v", n, s, r.Err())
	}
	if r.Number(); !errors.Is(r.Err(), ErrReply) {
		t.Errorf("beyond the end: %v", r.Err())
	}
	// In two fragments.
	cut := append(append(Numbers(8), body[:8]...), record(body[8:])...)
	if r, err := call(t, cut); err != nil || r.Number() != 7 {
		t.Errorf("in fragments: %v", err)
	}
}

func TestHostileReplies(t *testing.T) {
	for name, answer := range map[string][]byte{
		"nothing":         {},
		"endless":         Numbers(lastFragment | 0x7fffffff),
		"cut off":         Numbers(lastFragment|100, 1),
		"short":           record(Numbers(1)),
		"other call":      record(Numbers(2, messageReply, accepted, authNone, 0, success)),
		"refused":         record(Numbers(1, messageReply, 1, 0, 0, 0)),
		"long verifier":   record(Numbers(1, messageReply, accepted, authNone, 0xffffffff, success)),
		"many fragments":  bytes.Repeat(Numbers(0), maxFragments+1),
		"no such program": record(Numbers(1, messageReply, accepted, authNone, 0, 1)),
	} {
		if r, err := call(t, answer); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add(record(append(Numbers(1, messageReply, accepted, authNone, 0, success, 7), Bytes([]byte("hello"))...)))
	f.Fuzz(func(_ *testing.T, data []byte) {
		body, err := read(bytes.NewReader(data))
		if err != nil {
			return
		}
		r, err := reply(body, 1)
		if err != nil {
			return
		}
		for r.Err() == nil {
			if len(r.Bytes()) == 0 {
				r.Number()
			}
		}
	})
}
