// Package gluster talks to GlusterFS processes in their own protocols: bricks, clients,
// glusterd, the self-heal daemon and the rebalance process. It parses their volfiles and
// builds the arguments of clients.
package gluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/schema"
)

// ManagementPort is the port of glusterd (registered with IANA).
const ManagementPort = 24007

// Server is a volume of a cluster that glusterd manages.
type Server struct {
	Hosts   []string // of glusterd, tried in this order
	Port    int      // 0 means ManagementPort
	Volume  string
	Options []string // such as log-level=INFO; the names are those of schema.ClientOptions
	// Aliases are addresses by host name, with precedence over DNS.
	Aliases map[string]string
}

// address is host:port with the alias of the host, if it has one.
func (s Server) address(host, port string) string {
	if ip, known := s.Aliases[host]; known {
		host = ip
	}
	return net.JoinHostPort(host, port)
}

// ErrOption says that an option is unknown, or has a value where none is allowed or needs one.
var ErrOption = errors.New("invalid client option")

// patience ends a connection to a brick whose node acknowledges nothing, as the graphs of native pools do
// (ADR 28). The names of glusterd's clients end with -client- and a number.
var patience = []string{
	"--xlator-option=*-client-*.transport.tcp-user-timeout=" + strconv.Itoa(schema.NodeTimeout),
	"--xlator-option=*-client-*.transport.socket.keepalive-time=" + strconv.Itoa(schema.KeepaliveTime),
	"--xlator-option=*-client-*.transport.socket.keepalive-interval=" + strconv.Itoa(schema.KeepaliveInterval),
}

// Args returns the arguments of a glusterfs process in the foreground that mounts the volume
// at target.
func (s Server) Args(target string) ([]string, error) {
	if len(s.Hosts) == 0 || s.Volume == "" || strings.HasPrefix(s.Volume, "-") {
		return nil, fmt.Errorf("mount volume %q of hosts %v: a volume and at least one host are needed", s.Volume,
			s.Hosts)
	}
	port := s.Port
	if port == 0 {
		port = ManagementPort
	}
	hosts := slices.Clone(s.Hosts)
	var options []string
	for _, o := range s.Options {
		name, value, valued := strings.Cut(o, "=")
		needs, known := schema.ClientOptions[name]
		switch {
		case !known:
			return nil, fmt.Errorf("%w: %q; see docs/storagepool.md", ErrOption, name)
		case needs != valued || valued && value == "":
			return nil, fmt.Errorf("%w: %q; with a value: %t", ErrOption, o, needs)
		case name == "backup-volfile-servers":
			hosts = append(hosts, strings.Split(value, ":")...)
		default:
			options = append(options, "--"+o)
		}
	}
	args := append([]string{"--no-daemon"}, patience...)
	for _, h := range hosts {
		args = append(args, "--volfile-server="+h)
	}
	args = append(args, "--volfile-server-port="+strconv.Itoa(port), "--volfile-id=/"+s.Volume)
	return append(append(args, options...), target), nil
}

// rootInode is the inode number of the root of every GlusterFS mount.
const rootInode = 1

// WaitMounted waits until the root of a mount answers. The exit code of glusterfs does not
// help: it is 0 for a stopped volume, whose mount then fails every call. A stat that hangs
// is abandoned and ends with the mount.
func WaitMounted(ctx context.Context, target string) error {
	answers := make(chan error, 1)
	ask := func() { answers <- CheckMounted(target) }
	go ask()
	last := errors.New("no answer")
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the mount at %s: %w (%w)", target, last, ctx.Err())
		case last = <-answers:
		}
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the mount at %s: %w (%w)", target, last, ctx.Err())
		case <-time.After(20 * time.Millisecond):
			go ask()
		}
	}
}

// CheckMounted asks the root of a mount once. It returns when the client answers, or ends.
func CheckMounted(target string) error {
	var st unix.Stat_t
	if err := unix.Stat(target, &st); err != nil {
		return fmt.Errorf("the mount answers: %w", err)
	}
	if st.Ino != rootInode {
		return errNotMounted
	}
	return nil
}

var errNotMounted = errors.New("nothing is mounted")
