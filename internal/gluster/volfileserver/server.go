// Package volfileserver serves volfiles to GlusterFS processes, as glusterd does, and
// notifies them of changes: they fetch the new volfile and switch to its graph with their
// files open, without a remount.
package volfileserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// Programs and procedures (GlusterFS 10: rpc/rpc-lib/src/protocol-common.h).
const (
	handshakeProgram, getspec = 14398633, 2
	eventNotify               = 5
	portmapProgram, signIn    = 34123456, 3
	callbackProgram           = 52743234
	callbackVersion           = 1
	fetchSpec                 = 1
)

// EventRebalance is the event with which a rebalance reports its result (GlusterFS 10:
// GF_EN_DEFRAG_STATUS).
const EventRebalance = 0

// writeLimit is how long a process may take to read a message.
const writeLimit = 10 * time.Second

// maxKey is the longest volfile ID that is looked up, in bytes.
const maxKey = 1024

// Server serves volfiles by their IDs.
type Server struct {
	// Event, if not nil, is called with the events that processes report. Set it before
	// Serve.
	Event func(event uint32, values map[string]string)

	log logr.Logger

	mu          sync.Mutex
	volfiles    map[string]string
	withdrawn   bool
	connections map[*connection]bool
}

// connection is the connection of one process.
type connection struct {
	net.Conn
	write sync.Mutex
	keys  map[string]bool // volfiles that it has fetched; guarded by the server's mu
	calls uint32
}

// New returns a server without volfiles.
func New(log logr.Logger) *Server {
	return &Server{log: log, volfiles: map[string]string{}, connections: map[*connection]bool{}}
}

// Set adds or replaces a volfile, and notifies the processes that have fetched it of a
// change. It reports whether the volfile is new or has changed.
func (s *Server) Set(key, volfile string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, known := s.volfiles[key]
	s.volfiles[key] = volfile
	if !known || before == volfile {
		return !known
	}
	for c := range s.connections {
		if c.keys[key] {
			go s.notify(c)
		}
	}
	return true
}

// Get returns a volfile.
func (s *Server) Get(key string) (volfile string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	volfile, known = s.volfiles[key]
	return volfile, known
}

// Remove deletes a volfile. Processes that have fetched it keep it.
func (s *Server) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.volfiles, key)
}

// Withdraw makes all processes that have fetched a volfile exit, and all that request one later.
// GlusterFS 10 (mgmt_getspec_cbk) exits, with code 0, when the server of its volfile answers that
// the operation is not supported, also while it serves clients.
func (s *Server) Withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.withdrawn {
		return
	}
	s.withdrawn = true
	for c := range s.connections {
		if len(c.keys) > 0 {
			go s.notify(c)
		}
	}
}

// Withdrawn reports whether Withdraw was called.
func (s *Server) Withdrawn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.withdrawn
}

func (s *Server) notify(c *connection) {
	c.write.Lock()
	c.calls++
	message := oncrpc.Callback(c.calls, callbackProgram, callbackVersion, fetchSpec)
	c.write.Unlock()
	if err := c.send(message); err != nil {
		s.log.Info("cannot notify a process of its new volfile", "error", err.Error())
		c.Close() // it reconnects and fetches
	}
}

func (c *connection) send(message []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	return oncrpc.WriteMessage(c, message)
}

// Serve answers on a listener until the context ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stopped := context.AfterFunc(ctx, func() {
		l.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.connections {
			c.Close()
		}
	})
	defer stopped()
	var each sync.WaitGroup
	defer each.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept connections for volfiles: %w", err)
		}
		c := &connection{Conn: conn, keys: map[string]bool{}}
		s.mu.Lock()
		s.connections[c] = true
		s.mu.Unlock()
		each.Go(func() {
			s.serveConnection(c)
			c.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.connections, c)
		})
	}
}

// serveConnection replies to one process until it disconnects.
func (s *Server) serveConnection(c *connection) {
	for {
		message, err := oncrpc.ReadMessage(c)
		if err != nil {
			return // it has disconnected, or is not a GlusterFS process
		}
		call, err := oncrpc.ParseCall(message)
		if errors.Is(err, oncrpc.ErrCall) {
			continue // a reply to a callback
		}
		if err := c.send(s.reply(c, call)); err != nil {
			return
		}
	}
}

// reply is the reply to one call.
func (s *Server) reply(c *connection, call oncrpc.RequestMessage) []byte {
	switch {
	case call.Program == handshakeProgram && call.Procedure == getspec:
		return s.replyVolfile(c, call)
	case call.Program == handshakeProgram && call.Procedure == eventNotify:
		return s.replyEvent(call)
	case call.Program == portmapProgram && call.Procedure == signIn:
		return call.Reply(oncrpc.Numbers(0, 0)) // a brick registers its port, which volfiles have
	case call.Program == handshakeProgram || call.Program == portmapProgram:
		return call.Refuse(oncrpc.ProcedureUnavailable)
	}
	return call.Refuse(oncrpc.ProgramUnavailable)
}

// replyVolfile replies with a volfile: its length (or -1), an errno, the text, and a
// dictionary.
func (s *Server) replyVolfile(c *connection, call oncrpc.RequestMessage) []byte {
	call.Arguments.Number() // flags
	key := string(call.Arguments.Bytes())
	call.Arguments.Bytes() // dictionary of the process' capabilities
	if call.Arguments.Err() != nil || len(key) > maxKey {
		return call.Refuse(oncrpc.GarbageArguments)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text, known := s.volfiles[key]
	switch {
	case s.withdrawn:
		return call.Reply(noVolfile(syscall.ENOTSUP))
	case !known:
		return call.Reply(noVolfile(syscall.ENOENT))
	}
	c.keys[key] = true
	results := append(oncrpc.Numbers(uint32(len(text)), 0), oncrpc.Bytes([]byte(text))...)
	return call.Reply(append(results, oncrpc.Bytes(nil)...))
}

// noVolfile is the reply that there is no volfile.
func noVolfile(reason syscall.Errno) []byte {
	return slices.Concat(oncrpc.Numbers(^uint32(0), uint32(reason)), oncrpc.Bytes(nil), oncrpc.Bytes(nil))
}

// replyEvent accepts a number and a dictionary, and replies with 0, an errno, and a
// dictionary.
func (s *Server) replyEvent(call oncrpc.RequestMessage) []byte {
	number, data := call.Arguments.Number(), call.Arguments.Bytes()
	values, err := gluster.ParseDictionary(data)
	if err != nil || call.Arguments.Err() != nil {
		return call.Refuse(oncrpc.GarbageArguments)
	}
	if s.Event != nil {
		s.Event(number, values)
	}
	return call.Reply(append(oncrpc.Numbers(0, 0), oncrpc.Bytes(nil)...))
}
