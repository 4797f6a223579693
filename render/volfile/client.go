package volfile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/atoll-storage/atoll/schema"
)

// Client builds the graph of a mount that serves files.
func Client(p Pool) (*Xlator, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	s := p.distribute(clientGraph)
	s.push("utime", "features/utime", Option{"noatime", "on"})
	s.toggled("write-behind", "performance/write-behind", "performance.write-behind", true)
	s.toggled("readdir-ahead", "performance/readdir-ahead", "performance.readdir-ahead", false)
	s.toggled("read-ahead", "performance/read-ahead", "performance.read-ahead", false)
	s.toggled("io-cache", "performance/io-cache", "performance.io-cache", false)
	s.toggled("open-behind", "performance/open-behind", "performance.open-behind", true)
	s.toggled("quick-read", "performance/quick-read", "performance.quick-read", true)
	s.toggled("md-cache", "performance/md-cache", "performance.stat-prefetch", true)
	s.toggled("nl-cache", "performance/nl-cache", "performance.nl-cache", false)
	s.toggled("io-threads", "performance/io-threads", "performance.client-io-threads", p.Type == schema.Disperse)
	s.pushNamed(p.Name, "debug/io-stats")
	return s.top, nil
}

// BlockClient builds the graph of a mount for the files behind block volumes. It has strict
// locks, so that a node that lost its lock cannot write, and no sharding: only the first
// shard is written through the open file that has the lock, and a node that lost the lock
// could still write to the others (docs/decisions/0015).
func BlockClient(p Pool) (*Xlator, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	s := p.distribute(blockGraph)
	s.push("utime", "features/utime", Option{"noatime", "on"})
	s.toggled("write-behind", "performance/write-behind", "performance.write-behind", true)
	s.toggled("open-behind", "performance/open-behind", "performance.open-behind", true)
	s.pushNamed(p.Name, "debug/io-stats")
	return s.top, nil
}

// Heal builds the graph of the self-heal daemon, which runs beside every brick and heals the
// bricks of its host. For Replica1 it has nothing to heal until a copy is added. Heal returns
// ErrNoHeal for External pools.
func Heal(p Pool) (*Xlator, error) {
	if p.Type == schema.External {
		return nil, fmt.Errorf("pool %q of type %s: %w", p.Name, p.Type, ErrNoHeal)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	s := stack{pool: p.Name, options: p.Options, graph: healGraph, login: p.login()}
	sets := p.sets(&s)
	for _, set := range sets {
		if p.Type == schema.Replica1 {
			continue
		}
		s.apply(set, []Option{
			{"iam-self-heal-daemon", "yes"},
			{"self-heal-daemon", "enable"},
			// Poll often: the daemon does not notice when a network partition ends.
			{"heal-timeout", "10"},
		})
		if p.Type == schema.Disperse {
			p.raiseHealTimeout(set)
		}
		if p.Type != schema.Disperse {
			set.Options = append(set.Options,
				Option{"data-self-heal", "on"}, Option{"metadata-self-heal", "on"},
				Option{"entry-self-heal", "on"}, Option{"background-self-heal-count", "0"},
				// In units of 128 KiB. Large files such as block volumes are healed in
				// windows of this size, each under a lock on all bricks; the default is 8.
				Option{"data-self-heal-window-size", "64"})
		}
	}
	return s.apply(&Xlator{Name: p.Name, Type: "debug/io-stats", Subvolumes: sets}, nil), nil
}

// disperseHealTimeout is the minimum that cluster/disperse 10.3 accepts, in seconds. With
// less the daemon refuses to start.
const disperseHealTimeout = 60

func (p Pool) raiseHealTimeout(set *Xlator) {
	for _, o := range set.Options {
		if seconds, err := strconv.Atoi(o.Value); o.Name == "heal-timeout" &&
			(err != nil || seconds < disperseHealTimeout) {
			set.set(Option{"heal-timeout", strconv.Itoa(disperseHealTimeout)})
		}
	}
}

// distribute stacks clients, sets and cluster/distribute over the sets.
func (p Pool) distribute(g graph) stack {
	s := stack{pool: p.Name, options: p.Options, graph: g, login: p.login()}
	sets := p.sets(&s)
	s.top = s.apply(&Xlator{Name: p.Name + "-dht", Type: "cluster/distribute", Subvolumes: sets}, []Option{
		{"lock-migration", "off"},
		{"force-migration", "off"},
		// Without it, listings miss directories for a while after a pool has grown.
		{"readdir-optimize", "on"},
	})
	if names := p.leaving(sets); len(names) > 0 {
		s.top.set(Option{"decommissioned-bricks", strings.Join(names, ",")}) // they get no new files
	}
	return s
}

// leaving returns the names of the decommissioned sets.
func (p Pool) leaving(sets []*Xlator) []string {
	var names []string
	for _, i := range p.Leaving {
		names = append(names, sets[i].Name)
	}
	return names
}

// Commands of a rebalance (GlusterFS 10: gf_defrag_type in xdr/cli1-xdr.x). The force command
// also moves files to sets with less free space, and files with several hard links.
const (
	rebalanceStart = "1"
	rebalanceForce = "5"
)

// Rebalance builds the graph of the rebalance process, which fixes the layout of directories
// over all sets and moves files accordingly. From decommissioned sets it moves all files. The
// process starts by itself and exits when done. Rebalance returns ErrOneSet for pools of one
// set.
func Rebalance(p Pool) (*Xlator, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if len(p.Bricks) == p.setSize() {
		return nil, fmt.Errorf("pool %q: %w", p.Name, ErrOneSet)
	}
	s := p.distribute(rebalanceGraph)
	command := rebalanceStart
	if len(p.Leaving) > 0 {
		command = rebalanceForce
	}
	for _, o := range []Option{
		{"rebalance-cmd", command},
		{"node-uuid", p.nodeID()},
		{"commit-hash", strconv.FormatUint(uint64(p.LayoutID()), 10)},
		{"use-readdirp", "yes"},
		{"lookup-unhashed", "yes"},
		// An offline set would look as if it had no files.
		{"assert-no-child-down", "yes"},
	} {
		s.top.set(o)
	}
	s.pushNamed(p.Name, "debug/io-stats")
	return s.top, nil
}

// sets builds a client for every brick and the set's xlator over the clients of each set. A
// set of one brick is the client itself.
func (p Pool) sets(s *stack) []*Xlator {
	var sets []*Xlator
	size := p.setSize()
	for first := 0; first < len(p.Bricks); first += size {
		var clients []*Xlator
		var pending []string
		for i := first; i < first+size; i++ {
			name := fmt.Sprintf("%s-client-%d", p.Name, i)
			clients = append(clients, s.client(name, p.Bricks[i]))
			pending = append(pending, name)
		}
		set := p.set(len(sets), clients, pending)
		if set == nil {
			sets = append(sets, clients[0])
			continue
		}
		if p.Tiebreaker != nil {
			p.addTiebreaker(s, len(sets), set)
		}
		sets = append(sets, s.apply(set, nil))
	}
	return sets
}

// set returns the xlator over the clients of one set, nil for a set of one brick.
func (p Pool) set(index int, clients []*Xlator, pending []string) *Xlator {
	switch p.Type {
	case schema.Replica1:
		return nil
	case schema.Disperse:
		return &Xlator{
			Name: fmt.Sprintf("%s-disperse-%d", p.Name, index), Type: "cluster/disperse",
			Options: []Option{{"redundancy", strconv.Itoa(p.Redundancy)}}, Subvolumes: clients,
		}
	}
	options := []Option{
		{"volume-id", p.VolumeID},
		{"afr-pending-xattr", strings.Join(pending, ",")},
		{"granular-entry-heal", "on"},
		{"use-anonymous-inode", "yes"},
	}
	if p.Type == schema.Arbiter {
		options = append(options, Option{"arbiter-count", "1"})
	}
	if p.Tiebreaker == nil {
		options = append(options, Option{"quorum-type", "auto"})
	}
	return &Xlator{
		Name: fmt.Sprintf("%s-replicate-%d", p.Name, index), Type: "cluster/replicate",
		Options: options, Subvolumes: clients,
	}
}

// addTiebreaker adds the thin arbiter to a pair as third subvolume. The arbiter stores an
// attribute named after this subvolume and the volume ID. The number in the name counts sets
// as if each had three bricks, so that names do not change when sets are added.
func (p Pool) addTiebreaker(s *stack, index int, set *Xlator) {
	name := fmt.Sprintf("%s-ta-%d", p.Name, 3*index+2)
	set.Subvolumes = append(set.Subvolumes, s.client(name, *p.Tiebreaker))
	for i, o := range set.Options {
		if o.Name == "afr-pending-xattr" {
			set.Options[i].Value = o.Value + "," + name + "." + p.VolumeID
		}
	}
	set.Options = append(set.Options, Option{"thin-arbiter", p.Tiebreaker.Host + ":" + p.Tiebreaker.Directory})
}
