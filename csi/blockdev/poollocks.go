package blockdev

import (
	"slices"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/schema"
)

// poolLocks records which bricks have the locks of a pool's attached volumes.
type poolLocks struct {
	graph  string       // of the mount when they were locked
	bricks map[int]bool // by index: whether the brick has all of them
}

// initLocks records the connections of a pool before its first volume is locked.
func (m *Manager) initLocks(p catalog.Pool, a *attachment) error {
	m.mu.Lock()
	_, known := m.locks[p.Pool]
	m.mu.Unlock()
	if known && m.countOthers(p.Pool, []*attachment{a}) > 0 {
		return nil
	}
	graph, connections, err := m.Pools.Connections(p, schema.Block)
	if err != nil {
		return err
	}
	m.setLocks(p, graph, connections)
	return nil
}

// connectionChanges reports whether a brick has returned that lacks locks, and whether the mount
// has another graph: a brick may have been down while the graph changed.
func (m *Manager) connectionChanges(pool, graph string, connections []gluster.Connection) (returned, changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	locks := m.locks[pool]
	if locks.bricks == nil {
		return true, true
	}
	for _, c := range connections {
		if !c.Connected {
			locks.bricks[c.Brick] = false // to be noticed when it returns
		} else if c.Lost > 0 || !locks.bricks[c.Brick] {
			returned = true
		}
	}
	return returned, graph != locks.graph
}

// connectedThroughout returns the connections of now; those to bricks that were not connected
// before count as not connected.
func connectedThroughout(before, now []gluster.Connection) []gluster.Connection {
	was := map[int]bool{}
	for _, c := range before {
		was[c.Brick] = c.Connected
	}
	now = slices.Clone(now)
	for i := range now {
		now[i].Connected = now[i].Connected && was[now[i].Brick]
	}
	return now
}

// setLocks records which bricks have all locks: those on which as many files are open as on the
// others of their set. A client that reloads its graph may migrate its files before it is
// connected to all bricks, and then does not open them on the late ones.
func (m *Manager) setLocks(p catalog.Pool, graph string, connections []gluster.Connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks == nil {
		m.locks = map[string]poolLocks{}
	}
	most := openBySet(p, connections)
	bricks := map[int]bool{}
	for _, c := range connections {
		bricks[c.Brick] = c.Connected && c.Open == most[setOf(p, c)]
	}
	m.locks[p.Pool] = poolLocks{graph, bricks}
}

// setOf returns the index of the set of a connection's brick.
func setOf(p catalog.Pool, c gluster.Connection) int { return c.Brick / max(1, p.SetSize) }

// openBySet returns how many files are open on the bricks of each set.
func openBySet(p catalog.Pool, connections []gluster.Connection) map[int]int {
	most := map[int]int{}
	for _, c := range connections {
		most[setOf(p, c)] = max(most[setOf(p, c)], c.Open)
	}
	return most
}

// openFiles returns how many files are open in a graph.
func openFiles(p catalog.Pool, connections []gluster.Connection) int {
	n := 0
	for _, open := range openBySet(p, connections) {
		n += open
	}
	return n
}

// setGraph records the graph with which the volumes of a pool were locked.
func (m *Manager) setGraph(pool, graph string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	locks := m.locks[pool]
	locks.graph = graph
	m.locks[pool] = locks
}
