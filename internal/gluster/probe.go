package gluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/atoll-storage/atoll/internal/gluster/oncrpc"
)

// Programs of glusterd (GlusterFS 10: rpc/rpc-lib/src/protocol-common.h).
const (
	handshakeProgram, handshakeVersion, getspec = 14398633, 2, 2
	portmapProgram, portmapVersion, portByBrick = 34123456, 1, 1
)

// ProbeLimit is how long a probe takes at most.
const ProbeLimit = 5 * time.Second

// Errors of Probe.
var (
	ErrNoServer  = errors.New("none of the hosts answers")
	ErrNoVolume  = errors.New("the hosts do not have this volume")
	ErrStopped   = errors.New("the volume is stopped; start it with 'gluster volume start'")
	ErrNoQuorum  = errors.New("too many bricks are unreachable")
	errNotServed = errors.New("its process is not running")
)

// Report is the result of probing a volume.
type Report struct {
	Bricks   int
	Problems []string // unreachable bricks, and why
}

// Probe checks in a few seconds what a mount would report after minutes, or not at all:
// whether a host serves the volume, whether the host names of its bricks resolve, and
// whether the bricks listen.
func (s Server) Probe(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, ProbeLimit)
	defer cancel()
	text, err := s.fetchVolfile(ctx)
	if err != nil {
		return Report{}, err
	}
	g, err := parseGraph(text)
	if err != nil {
		return Report{}, fmt.Errorf("volume %s: %w", s.Volume, err)
	}
	var wait sync.WaitGroup
	for _, b := range g.bricks {
		wait.Go(func() { b.problem = s.checkBrick(ctx, b) })
	}
	wait.Wait()
	return s.report(g)
}

// report says whether the volume serves with its reachable bricks.
func (s Server) report(g *graph) (Report, error) {
	r := Report{Bricks: len(g.bricks)}
	stopped := 0
	for i, b := range g.bricks {
		if b.problem == "" {
			continue
		}
		if strings.Contains(b.problem, errNotServed.Error()) {
			stopped++
		}
		r.Problems = append(r.Problems,
			fmt.Sprintf("brick %d (%s:%s): %s", i, b.options["remote-host"], b.options["remote-subvolume"], b.problem))
	}
	switch {
	case stopped == len(g.bricks) && stopped > 0:
		return r, fmt.Errorf("volume %s: %w", s.Volume, ErrStopped)
	case !g.serves():
		return r, fmt.Errorf("volume %s: %w: %s", s.Volume, ErrNoQuorum, strings.Join(r.Problems, "; "))
	}
	return r, nil
}

func (s Server) port() string {
	if s.Port == 0 {
		return strconv.Itoa(ManagementPort)
	}
	return strconv.Itoa(s.Port)
}

// fetchVolfile requests the volume's client graph from all hosts concurrently and returns
// the first answer. If there is none, the error has the problem of every host.
func (s Server) fetchVolfile(ctx context.Context) (string, error) {
	type answer struct {
		host, text string
		err        error
	}
	answers := make(chan answer, len(s.Hosts))
	for _, host := range s.Hosts {
		go func() {
			text, err := s.fetchVolfileFrom(ctx, host)
			answers <- answer{host, text, err}
		}()
	}
	var problems []string
	for range s.Hosts {
		a := <-answers
		if a.err == nil {
			return a.text, nil
		}
		if errors.Is(a.err, ErrNoVolume) {
			return "", a.err // the other hosts belong to the same cluster
		}
		problems = append(problems, fmt.Sprintf("host %s: %s", a.host, explain(a.err)))
	}
	return "", fmt.Errorf("%w: %s", ErrNoServer, strings.Join(problems, "; "))
}

// maxOpVersion is the newest op-version that the client supports (GlusterFS 10:
// GD_OP_VERSION_MAX). Without it, glusterd considers the client too old.
const maxOpVersion = "100000"

func (s Server) fetchVolfileFrom(ctx context.Context, host string) (string, error) {
	arguments := append(oncrpc.Numbers(0), oncrpc.Bytes([]byte(s.Volume))...)
	arguments = append(arguments, oncrpc.Bytes(dictionary("max-op-version", maxOpVersion, "min-op-version", "1"))...)
	r, err := oncrpc.Call(ctx, s.address(host, s.port()), handshakeProgram, handshakeVersion, getspec, arguments)
	if err != nil {
		return "", err
	}
	result, number := int32(r.Number()), r.Number()
	text := string(r.Bytes())
	if err := r.Err(); err != nil {
		return "", err
	}
	switch {
	case result < 0 && syscall.Errno(number) == syscall.ENOENT:
		return "", fmt.Errorf("%w: %s, according to %s", ErrNoVolume, s.Volume, host)
	case result < 0:
		return "", fmt.Errorf("it refuses to send the volume's graph: %w", syscall.Errno(number))
	}
	return text, nil
}

// checkBrick says why a brick is unreachable, "" if it is reachable.
func (s Server) checkBrick(ctx context.Context, b *volume) string {
	host, port := b.options["remote-host"], b.options["remote-port"]
	if port == "" {
		arguments := oncrpc.Bytes([]byte(b.options["remote-subvolume"]))
		r, err := oncrpc.Call(ctx, s.address(host, s.port()), portmapProgram, portmapVersion, portByBrick, arguments)
		if err != nil {
			return explain(err)
		}
		result, _, _, number := int32(r.Number()), r.Number(), r.Number(), r.Number()
		if err := r.Err(); err != nil {
			return explain(err)
		}
		if result < 0 {
			return errNotServed.Error()
		}
		port = strconv.Itoa(int(number))
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.address(host, port))
	if err != nil {
		return explain(err)
	}
	conn.Close()
	return ""
}

// explain puts a network error into plain words.
func explain(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("the name %s does not resolve here; add it to DNS, or to hostAliases", dns.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "it refuses connections"
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "it does not answer in time"
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
