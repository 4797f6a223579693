package volfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/atoll-storage/atoll/schema"
)

// Endpoint is the address of a brick.
type Endpoint struct {
	Host      string // name or address to which clients connect
	Port      int    // TCP port
	Directory string // brick directory in the brick's container, and name of the brick's top xlator
}

// Pool describes a native pool, from which the graphs are built.
type Pool struct {
	Name             string
	VolumeID         string // UUID, stored on every brick
	Type             schema.Type
	Bricks           []Endpoint // a multiple of the set size
	Data, Redundancy int        // Disperse
	Leaving          []int      // indices of decommissioned sets
	Tiebreaker       *Endpoint  // Replica2
	Options          map[string]string
}

// Errors of the builders.
var (
	ErrNoHeal  = errors.New("the pool has no bricks to heal")
	ErrOneSet  = errors.New("the pool has only one set")
	ErrInvalid = errors.New("build graph")
)

// setSize returns the number of consecutive bricks of one set.
func (p Pool) setSize() int {
	switch p.Type {
	case schema.Replica1:
		return 1
	case schema.Replica2:
		return 2
	case schema.Replica3, schema.Arbiter:
		return 3
	case schema.Disperse:
		return p.Data + p.Redundancy
	}
	return 0
}

func (p Pool) check() error {
	size := p.setSize()
	if size == 0 || len(p.Bricks) == 0 || len(p.Bricks)%size != 0 {
		return fmt.Errorf("%w: pool %q of type %s has %d bricks, not a multiple of %d", ErrInvalid, p.Name, p.Type,
			len(p.Bricks), size)
	}
	for _, set := range p.Leaving {
		if set < 0 || set >= len(p.Bricks)/size {
			return fmt.Errorf("%w: pool %q has no set %d to decommission", ErrInvalid, p.Name, set)
		}
	}
	if _, err := uuid.Parse(p.VolumeID); err != nil {
		return fmt.Errorf("%w: pool %q: volume ID %q is not a UUID", ErrInvalid, p.Name, p.VolumeID)
	}
	return nil
}

// nodeID returns the node UUID of all bricks of a pool. A rebalance process handles the bricks
// that have its node UUID, and one process handles all bricks.
func (p Pool) nodeID() string {
	return uuid.NewSHA1(uuid.MustParse(p.VolumeID), []byte("node")).String()
}

// LayoutID identifies how a pool distributes its files: the number of sets and which of them
// are decommissioned. GlusterFS stores it on every directory with that layout.
func (p Pool) LayoutID() uint32 {
	text := fmt.Sprintf("sets %d of %d, less %v", len(p.Bricks)/p.setSize(), p.setSize(), p.Leaving)
	id := uuid.NewSHA1(uuid.MustParse(p.VolumeID), []byte(text))
	return binary.BigEndian.Uint32(id[:4])&^(1<<31) | 1 // 0 means none
}

// Brick builds the graph that glusterfsd serves for the brick at index.
func Brick(p Pool, index int) (*Xlator, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if index < 0 || index >= len(p.Bricks) {
		return nil, fmt.Errorf("%w: pool %q has no brick %d", ErrInvalid, p.Name, index)
	}
	var role string
	if p.Type == schema.Arbiter && index%3 == 2 {
		role = "arbiter"
	}
	return p.brick(p.Bricks[index], role), nil
}

// Tiebreaker builds the graph of the pool's thin arbiter.
func Tiebreaker(p Pool) (*Xlator, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Tiebreaker == nil {
		return nil, fmt.Errorf("%w: pool %q has no tiebreaker", ErrInvalid, p.Name)
	}
	return p.brick(*p.Tiebreaker, "thin-arbiter"), nil
}

// brick stacks the xlators of a brick: storage at the bottom, network on top. role adds
// features/<role> above the storage.
func (p Pool) brick(at Endpoint, role string) *Xlator {
	s := stack{pool: p.Name, options: p.Options, graph: brickGraph}
	s.push("posix", "storage/posix",
		Option{"directory", at.Directory},
		Option{"volume-id", p.VolumeID},
		Option{"fips-mode-rchecksum", "on"},
		Option{"shared-brick-count", "1"},
		Option{"glusterd-uuid", p.nodeID()})
	if role != "" {
		s.push(role, "features/"+role)
	}
	s.push("access-control", "features/access-control")
	var locks []Option
	if p.Tiebreaker != nil {
		// Clients release the thin arbiter's lock on contention.
		locks = []Option{{"notify-contention", "yes"}}
	}
	s.push("locks", "features/locks", locks...)
	s.push("upcall", "features/upcall", Option{"cache-invalidation", "off"})
	s.push("io-threads", "performance/io-threads")
	s.push("index", "features/index", p.index(at)...)
	s.pushNamed(at.Directory, "debug/io-stats", Option{"unique-id", at.Directory})
	s.push("server", "protocol/server", append([]Option{
		{"transport-type", "tcp"},
		{"transport.address-family", "inet"},
		{"transport.socket.listen-port", strconv.Itoa(at.Port)},
		{"transport.listen-backlog", "1024"},
		// A disconnected client loses its locks after about 8 seconds, so that another can
		// take over; with the defaults after 41.
		{"transport.socket.keepalive", "1"},
		{"transport.socket.keepalive-time", "5"},
		{"transport.socket.keepalive-interval", "1"},
		{"transport.socket.keepalive-count", "3"},
		{"transport.tcp-user-timeout", "8"},
		{"auth-path", at.Directory},
	}, p.admit(at)...)...)
	return s.top
}

// index returns the options of features/index, which lists the entries with pending heals: it
// watches the attributes that the client's replicate or disperse xlator sets.
func (p Pool) index(at Endpoint) []Option {
	base := Option{"index-base", strings.TrimRight(at.Directory, "/") + "/.glusterfs/indices"}
	if p.Type == schema.Disperse {
		return []Option{{"xattrop64-watchlist", "trusted.ec.dirty"}, base}
	}
	return []Option{
		{"xattrop-pending-watchlist", "trusted.afr." + p.Name + "-"},
		{"xattrop-dirty-watchlist", "trusted.afr.dirty"},
		base,
	}
}
