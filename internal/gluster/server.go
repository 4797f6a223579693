// Package gluster speaks to GlusterFS processes: how they are started and how one
// sees that they answer.
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

// Server is a volume that a glusterd serves.
type Server struct {
	Hosts   []string // of glusterd, asked in this order
	Port    int      // 0 is ManagementPort
	Volume  string
	Options []string // such as log-level=INFO, names of schema.ClientOptions
	// Aliases are addresses by name, which count before what DNS says.
	Aliases map[string]string
}

// address is where to connect for a host and port.
func (s Server) address(host, port string) string {
	if ip, known := s.Aliases[host]; known {
		host = ip
	}
	return net.JoinHostPort(host, port)
}

// ErrOption is wrapped by what Args says of an option.
var ErrOption = errors.New("the option is not one for a volume's client")

// Args gives the arguments of a glusterfs process in the foreground that mounts
// the volume at target.
func (s Server) Args(target string) ([]string, error) {
	if len(s.Hosts) == 0 || s.Volume == "" || strings.HasPrefix(s.Volume, "-") {
		return nil, fmt.Errorf("mounting volume %q of hosts %v: a volume and at least one host are needed", s.Volume, s.Hosts)
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
	args := []string{"--no-daemon"}
	for _, h := range hosts {
		args = append(args, "--volfile-server="+h)
	}
	args = append(args, "--volfile-server-port="+strconv.Itoa(port), "--volfile-id=/"+s.Volume)
	return append(append(args, options...), target), nil
}

// rootInode is the inode of the root of every GlusterFS mount.
const rootInode = 1

// WaitMounted waits until the root of a mount answers. The exit code of glusterfs
// says nothing: it is 0 for a stopped volume, whose mount then fails every call.
// A stat that hangs is left behind and ends with the mount.
func WaitMounted(ctx context.Context, target string) error {
	answers := make(chan error, 1)
	ask := func() {
		var st unix.Stat_t
		err := unix.Stat(target, &st)
		if err == nil && st.Ino != rootInode {
			err = errNotMounted
		}
		answers <- err
	}
	go ask()
	last := errors.New("no answer")
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the mount at %s: %w (%w)", target, last, ctx.Err())
		case last = <-answers:
		}
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the mount at %s: %w (%w)", target, last, ctx.Err())
		case <-time.After(20 * time.Millisecond):
			go ask()
		}
	}
}

var errNotMounted = errors.New("nothing is mounted there")
