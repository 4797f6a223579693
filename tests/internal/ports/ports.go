// Package ports hands out TCP ports for servers of tests.
package ports

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// Ports are below those that Linux gives to outgoing connections (ip_local_port_range, from
// 32768): such a port can be taken by a client between being found free and being listened on.
const (
	lowest = 10000
	count  = 22000
)

var next atomic.Int64

// processes that share a network start at different ports.
func init() { next.Store(int64(os.Getpid() % 220 * 100)) }

// Free returns a port of an address of this machine, in the network namespace of the calling
// thread, on which nothing listens. This process never gets it again.
func Free(host string) (int, error) {
	for range 1000 {
		port := lowest + int(next.Add(1)%count)
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("no free port on %s", host)
}
