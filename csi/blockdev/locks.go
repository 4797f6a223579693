package blockdev

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/schema"
)

// A brick that restarts has forgotten its locks, and a client that had a locked file open there
// does not reopen it: it could not know who has written to it since. After the second of three
// bricks a healthy node would lose its volume. So the manager polls the connections to bricks.
// While it still has its locks on enough bricks, it reopens its files on all of them and locks
// them on the brick that has returned.

const (
	// keepEvery is how often the connections to bricks are polled. A brick that has returned
	// has all locks again after this and about a tenth of a second.
	keepEvery = time.Second
	// probeLimit is how long a volume may take to respond to verify.
	probeLimit = 2 * time.Second
	// contendLimit is how long the manager tries to lock its files on a brick that has
	// returned, where another node may be trying at the same time. It is well below
	// takeoverGrace.
	contendLimit = time.Second
	// verifiedFor is how long a shared volume counts as not lost after enough bricks have
	// responded for it. A node that takes over an exclusive volume finds its loss by itself:
	// two nodes cannot get the lock. The lock of a shared volume can be taken twice, also by a
	// node that was cut off between verify and reacquireLock. Bricks keep the locks of a silent
	// node for 8 s (the server's keepalive and tcp-user-timeout); this is well below that.
	verifiedFor = 6 * time.Second
)

// KeepLocks keeps the locks of attached volumes until the context ends.
func (m *Manager) KeepLocks(ctx context.Context) error {
	return m.eachPool(ctx, keepEvery, func(pool string, volumes []*attachment) {
		if err := m.keepPool(ctx, pool, volumes); err != nil {
			m.Log.Info("could not keep the locks of a pool", "pool", pool, "error", err.Error())
		}
	})
}

// eachPool calls work with the volumes of each pool at an interval until the context ends. A
// slow pool never blocks other pools; overlapping runs are skipped.
func (m *Manager) eachPool(
	ctx context.Context, every time.Duration, work func(pool string, volumes []*attachment),
) error {
	var busy sync.Map // by pool
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for pool, volumes := range m.byPool() {
			if _, running := busy.LoadOrStore(pool, true); running {
				continue
			}
			go func() {
				defer busy.Delete(pool)
				work(pool, volumes)
			}()
		}
	}
}

// byPool returns all attachments by pool.
func (m *Manager) byPool() map[string][]*attachment {
	m.mu.Lock()
	all := maps.Clone(m.attachments)
	m.mu.Unlock()
	pools := map[string][]*attachment{}
	for _, a := range all {
		pools[a.pool] = append(pools[a.pool], a)
	}
	return pools
}

// keepPool keeps the locks of one pool's volumes.
func (m *Manager) keepPool(ctx context.Context, pool string, volumes []*attachment) error {
	mine := m.tryLockAll(volumes)
	defer unlockAll(mine)
	if len(mine) == 0 {
		return nil
	}
	p := mine[0].of // also when the catalog no longer has it
	if _, err := m.Pools.Running(p, schema.Block); err != nil {
		m.markAllLost(mine, err) // their locks ended with their client
		return nil
	}
	graph, connections, err := m.Pools.Connections(p, schema.Block)
	if errors.Is(err, gluster.ErrGraphChanging) && p.Type == schema.Disperse {
		m.markAllLost(mine, errMoved)
		return nil
	}
	if err != nil {
		m.verify(mine)
		return err // the next run compares the graphs
	}
	returned, changed := m.connectionChanges(pool, graph, connections)
	if !returned && !changed {
		return nil
	}
	if p.Type == schema.Disperse {
		m.keepDisperse(mine, changed)
		if m.countOthers(pool, mine) == 0 {
			m.setGraph(pool, graph)
		}
		return nil
	}
	verified := time.Now()
	alive := m.verify(mine)
	if len(alive) == 0 {
		return nil
	}
	begin := time.Now()
	if returned {
		if err := m.Pools.ReloadGraph(ctx, p, schema.Block); err != nil {
			return err
		}
	}
	m.reacquireLocks(alive, verified)
	graph, now, err := m.Pools.Connections(p, schema.Block)
	if err != nil {
		return err
	}
	// If the client opens a file on a brick only because a lock is requested there, that brick
	// does not get the lock, and the others grant it. So the lock is requested again after the
	// connections were read: bricks where the file was open then have the lock.
	m.reacquireLocks(alive, verified)
	if openFiles(p, now) < len(alive) {
		// The mount shows a new graph before it sends calls there. These may be locks in the
		// former graph, which end with its connections: the next run requests them again.
		m.setGraph(pool, "")
		return nil
	}
	connections = connectedThroughout(connections, now)
	skipped := m.countOthers(pool, mine)
	if skipped > 0 {
		graph = "" // counts as a change: the next run locks those
	}
	m.setLocks(p, graph, connections)
	m.collectors().relocked.WithLabelValues(pool).Inc()
	m.Log.Info("locked the volumes of a pool on all bricks again", "pool", pool, "volumes", len(alive),
		"skipped", skipped, "took", time.Since(begin).String())
	return nil
}

// errMoved is the reason for a loss when the client of a Disperse pool has another graph.
var errMoved = errors.New("the graph of its pool has changed, and a Disperse pool does not migrate locks")

// keepDisperse handles volumes of a Disperse pool. Their client must not reload its graph:
// cluster/disperse migrates the lock of one brick, and reports that it has locked the file
// again where it has not (GlusterFS 10.3). So a brick that has returned stays without their
// locks until they are attached again. When the client has another graph, for whatever reason,
// they are lost: a node that takes one over gives this node takeoverGrace to notice.
func (m *Manager) keepDisperse(volumes []*attachment, changed bool) {
	if !changed {
		m.verify(volumes) // on too few bricks, they are lost
		return
	}
	m.markAllLost(volumes, errMoved)
}

func (m *Manager) markAllLost(volumes []*attachment, reason error) {
	for _, a := range volumes {
		m.markLost(a, reason)
	}
}

// countOthers counts the volumes of a pool besides these that are attached, or may be because a
// call is working on them.
func (m *Manager) countOthers(pool string, these []*attachment) int {
	n := 0
	for _, a := range m.byPool()[pool] {
		if slices.Contains(these, a) {
			continue
		}
		if !a.mu.TryLock() {
			n++
			continue
		}
		if a.locked != nil && a.lost == nil {
			n++
		}
		a.mu.Unlock()
	}
	return n
}

// tryLockAll returns the attached volumes that no call is working on, locked. It fences lost
// volumes that are not fenced yet.
func (m *Manager) tryLockAll(volumes []*attachment) []*attachment {
	var mine []*attachment
	for _, a := range volumes {
		if !a.mu.TryLock() {
			continue
		}
		if a.lost != nil && !a.fenced {
			m.fence(a)
		}
		if a.locked == nil || a.lost != nil {
			a.mu.Unlock()
			continue
		}
		mine = append(mine, a)
	}
	return mine
}

func unlockAll(volumes []*attachment) {
	for _, a := range volumes {
		a.mu.Unlock()
	}
}

// verify checks that enough bricks still know the volumes, and marks the others lost. If a
// volume is slow, it returns none: the client must not reload its graph under that volume.
func (m *Manager) verify(volumes []*attachment) (alive []*attachment) {
	results := make(map[*attachment]chan error, len(volumes))
	for _, a := range volumes {
		result := make(chan error, 1)
		results[a] = result
		file := a.locked.File
		go func() { result <- file.Sync() }()
	}
	limit := time.After(probeLimit)
	for _, a := range volumes {
		select {
		case err := <-results[a]:
			if err != nil {
				m.markLost(a, err)
				continue
			}
			alive = append(alive, a)
		case <-limit:
			m.Log.Info("a volume does not respond", "pool", a.pool, "volume", a.name)
			return nil
		}
	}
	return alive
}

// reacquireLocks locks volumes again and marks those lost that it cannot lock.
func (m *Manager) reacquireLocks(volumes []*attachment, verified time.Time) {
	for _, a := range volumes {
		if a.lost != nil {
			continue
		}
		if err := errors.Join(reacquireLock(a), a.checkAge(verified)); err != nil {
			m.markLost(a, err)
		}
	}
}

// reacquireLock locks the file again, on all bricks where it is open now.
func reacquireLock(a *attachment) error {
	end := time.Now().Add(contendLimit)
	for {
		err := a.locked.Reacquire()
		if err == nil || !errors.Is(err, ofd.ErrLocked) || time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

var errOutdated = errors.New("it was not locked again in time: the bricks may have dropped this node in between")

// checkAge returns an error if a volume that was verified, and locked again since, can have been
// lost in between.
func (a *attachment) checkAge(verified time.Time) error {
	if a.locked.Volume.Shared && time.Since(verified) > verifiedFor {
		return errOutdated
	}
	return nil
}
