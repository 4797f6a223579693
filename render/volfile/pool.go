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

// Endpoint is where a brick is served.
type Endpoint struct {
	Host      string // name or address that clients dial
	Port      int    // TCP port
	Directory string // brick folder as the brick process sees it, and the name of the brick's top xlator
}

// Pool is what the graphs of a native pool are built from.
type Pool struct {
	Name             string
	VolumeID         string // UUID, stored on every brick
	Type             schema.Type
	Bricks           []Endpoint // a multiple of the set size
	Data, Redundancy int        // Disperse
	Leaving          []int      // sets that are decommissioned, by index
	Tiebreaker       *Endpoint  // Replica2
	Options          map[string]string
}

// Errors of the builders.
var (
	ErrNoHeal  = errors.New("the pool has nothing to heal")
	ErrOneSet  = errors.New("the pool has one set")
	ErrInvalid = errors.New("the pool cannot have this graph")
)

// setSize is the number of consecutive bricks of one set.
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
		return fmt.Errorf("%w: pool %q of type %s has %d bricks, a multiple of %d is needed", ErrInvalid, p.Name, p.Type, len(p.Bricks), size)
	}
	for _, set := range p.Leaving {
		if set < 0 || set >= len(p.Bricks)/size {
			return fmt.Errorf("%w: pool %q has no set %d that could leave", ErrInvalid, p.Name, set)
		}
	}
	if _, err := uuid.Parse(p.VolumeID); err != nil {
		return fmt.Errorf("%w: pool %q: volume ID %q is not a UUID", ErrInvalid, p.Name, p.VolumeID)
	}
	return nil
}

// nodeID is the same for all bricks of a pool: whoever rebalances takes for its own the
// bricks whose ID it has, and one process does it for all.
func (p Pool) nodeID() string {
	return uuid.NewSHA1(uuid.MustParse(p.VolumeID), []byte("node")).String()
}

// LayoutID tells apart how a pool spreads its files: by how many sets it has and which
// of them are decommissioned. GlusterFS keeps it on every folder that is laid out so.
func (p Pool) LayoutID() uint32 {
	text := fmt.Sprintf("sets %d of %d, less %v", len(p.Bricks)/p.setSize(), p.setSize(), p.Leaving)
	id := uuid.NewSHA1(uuid.MustParse(p.VolumeID), []byte(text))
	return binary.BigEndian.Uint32(id[:4])&^(1<<31) | 1 // 0 is none
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

// brick stacks a brick: storage at the bottom, the network on top. role adds
// features/<role> right above the storage.
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
		// Clients hand the thin arbiter's lock to each other on contention.
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
		// A client that was cut off loses its locks after about eight seconds,
		// so that another can take over; the default takes 41.
		{"transport.socket.keepalive", "1"},
		{"transport.socket.keepalive-time", "5"},
		{"transport.socket.keepalive-interval", "1"},
		{"transport.socket.keepalive-count", "3"},
		{"transport.tcp-user-timeout", "8"},
		{"auth-path", at.Directory},
	}, p.admit(at)...)...)
	return s.top
}

// index keeps the list of what needs healing, by the marks that the client's
// replicate or disperse xlator sets.
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
