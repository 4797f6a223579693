// Package volfileserver serves volfiles to GlusterFS processes, as glusterd does, and tells
// them when one has changed: they fetch it anew and change their graph under the files
// that are open, without a remount.
package volfileserver

import (
	"context"
	"errors"
	"fmt"
	"net"
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

// EventRebalance is the event with which a rebalance tells how it ended (GlusterFS 10:
// GF_EN_DEFRAG_STATUS).
const EventRebalance = 0

// writeLimit is how long a process may take to read what it is sent.
const writeLimit = 10 * time.Second

// maxKey is the longest name of a volfile that is looked up, in bytes.
const maxKey = 1024

// Server has volfiles by name.
type Server struct {
	// Event, if not nil, is called with what a process tells of itself. Set it before
	// Serve.
	Event func(event uint32, values map[string]string)

	log logr.Logger

	mu          sync.Mutex
	volfiles    map[string]string
	connections map[*connection]bool
}

// connection is a process that has asked.
type connection struct {
	net.Conn
	write sync.Mutex
	keys  map[string]bool // what it has asked for; held by the server's lock
	calls uint32
}

// New makes a server without volfiles.
func New(log logr.Logger) *Server {
	return &Server{log: log, volfiles: map[string]string{}, connections: map[*connection]bool{}}
}

// Set gives a volfile, and tells the processes that have fetched it when it has
// changed. It reports whether it has.
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

// Get gives a volfile.
func (s *Server) Get(key string) (volfile string, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	volfile, known = s.volfiles[key]
	return volfile, known
}

// Remove takes a volfile away. Processes that have it keep it.
func (s *Server) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.volfiles, key)
}

func (s *Server) notify(c *connection) {
	c.write.Lock()
	c.calls++
	message := oncrpc.Callback(c.calls, callbackProgram, callbackVersion, fetchSpec)
	c.write.Unlock()
	if err := c.send(message); err != nil {
		s.log.Info("a process cannot be told of its new volfile", "error", err.Error())
		c.Close() // it connects again, and fetches
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
			return fmt.Errorf("waiting for processes that want volfiles: %w", err)
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

// serveConnection answers one process until it goes.
func (s *Server) serveConnection(c *connection) {
	for {
		message, err := oncrpc.ReadMessage(c)
		if err != nil {
			return // it has gone, or is no GlusterFS process
		}
		call, err := oncrpc.ParseCall(message)
		if errors.Is(err, oncrpc.ErrCall) {
			continue // an answer to a callback, or nothing for us
		}
		if err := c.send(s.reply(c, call)); err != nil {
			return
		}
	}
}

// reply is that to one call.
func (s *Server) reply(c *connection, call oncrpc.RequestMessage) []byte {
	switch {
	case call.Program == handshakeProgram && call.Procedure == getspec:
		return s.replyVolfile(c, call)
	case call.Program == handshakeProgram && call.Procedure == eventNotify:
		return s.replyEvent(call)
	case call.Program == portmapProgram && call.Procedure == signIn:
		return call.Reply(oncrpc.Numbers(0, 0)) // a brick tells its port, which we know
	case call.Program == handshakeProgram || call.Program == portmapProgram:
		return call.Refuse(oncrpc.ProcedureUnavailable)
	}
	return call.Refuse(oncrpc.ProgramUnavailable)
}

// replyVolfile is a volfile: its length (or -1), an errno, the text, and further data.
func (s *Server) replyVolfile(c *connection, call oncrpc.RequestMessage) []byte {
	call.Arguments.Number() // flags
	key := string(call.Arguments.Bytes())
	call.Arguments.Bytes() // what the process can do
	if call.Arguments.Err() != nil || len(key) > maxKey {
		return call.Refuse(oncrpc.GarbageArguments)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	text, known := s.volfiles[key]
	if !known {
		failed := append(oncrpc.Numbers(^uint32(0), uint32(syscall.ENOENT)), oncrpc.Bytes(nil)...)
		return call.Reply(append(failed, oncrpc.Bytes(nil)...))
	}
	c.keys[key] = true
	results := append(oncrpc.Numbers(uint32(len(text)), 0), oncrpc.Bytes([]byte(text))...)
	return call.Reply(append(results, oncrpc.Bytes(nil)...))
}

// replyEvent takes a number and a dictionary; the answer is 0, an errno, and a dictionary.
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
