package volfileserver

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// call encodes a call as a GlusterFS process does.
func call(program, procedure uint32, arguments []byte) []byte {
	return append(oncrpc.Numbers(7, 0, 2, program, 2, procedure, 0, 0, 0, 0), arguments...)
}

func TestServer(t *testing.T) {
	s := New(logr.Discard())
	s.Set("p", "volume a")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	ask := func(message []byte) string {
		t.Helper()
		if err := oncrpc.WriteMessage(conn, message); err != nil {
			t.Fatal(err)
		}
		answer, err := oncrpc.ReadMessage(conn)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	key := func(name string) []byte {
		return append(append(oncrpc.Numbers(0), oncrpc.Bytes([]byte(name))...), oncrpc.Bytes(nil)...)
	}
	if text := ask(call(handshakeProgram, getspec, key("p"))); !strings.Contains(text, "volume a") {
		t.Errorf("%q", text)
	}
	if text := ask(call(handshakeProgram, getspec, key("none"))); !strings.Contains(text,
		"\xff\xff\xff\xff\x00\x00\x00\x02") {
		t.Errorf("an unknown volfile: %q", text)
	}
	for program, state := range map[uint32]byte{
		1:              oncrpc.ProgramUnavailable,
		portmapProgram: oncrpc.ProcedureUnavailable,
	} {
		if text := ask(call(program, 99, nil)); text[len(text)-1] != state {
			t.Errorf("program %d: %q", program, text)
		}
	}
	if text := ask(call(portmapProgram, signIn, nil)); !strings.HasSuffix(text, "\x00\x00\x00\x00\x00\x00\x00\x00") {
		t.Errorf("a brick that signs in: %q", text)
	}
	// No notification of volfiles that have not changed or were not fetched.
	s.Set("p", "volume a")
	s.Set("q", "volume q")
	s.Set("q", "volume r")
	if !s.Set("p", "volume b") {
		t.Error("the change is not reported")
	}
	message, err := oncrpc.ReadMessage(conn)
	if err != nil {
		t.Fatal(err)
	}
	c, err := oncrpc.ParseCall(message)
	if err != nil || c.Program != callbackProgram || c.Procedure != fetchSpec {
		t.Errorf("notified with %+v, %v", c, err)
	}
	if text := ask(call(handshakeProgram, getspec, key("p"))); !strings.Contains(text, "volume b") {
		t.Errorf("%q", text)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := oncrpc.ReadMessage(conn); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the end: %v", err)
	}
}

// FuzzAnswer: a client can send anything.
func FuzzAnswer(f *testing.F) {
	f.Add(call(handshakeProgram, getspec, append(oncrpc.Numbers(0), oncrpc.Bytes([]byte("p"))...)))
	f.Add(call(portmapProgram, signIn, nil))
	f.Add(call(handshakeProgram, eventNotify, append(oncrpc.Numbers(1), oncrpc.Bytes(oncrpc.Numbers(0))...)))
	f.Fuzz(func(t *testing.T, message []byte) {
		s := New(logr.Discard())
		s.Set("p", "volume a")
		c, err := oncrpc.ParseCall(message)
		if err != nil {
			return
		}
		if answer := s.reply(&connection{keys: map[string]bool{}}, c); len(answer) < 24 {
			t.Errorf("answer %x", answer)
		}
	})
}
