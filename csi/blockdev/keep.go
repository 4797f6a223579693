package blockdev

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/linux/loop"
	"github.com/atoll-storage/atoll/internal/linux/ofd"
	"github.com/atoll-storage/atoll/schema"
)

// A brick that restarts has forgotten the locks that were on it, and a client that had a
// locked file open there does not open it again: it could not know who has written
// meanwhile. After the second of three bricks a healthy node would have lost its volume. So
// the holder looks, and while it still has its locks on enough bricks it opens its files
// anew everywhere and locks them on the brick that is back.

const (
	// keepEvery is how often the connections to bricks are looked at. A brick that is back
	// has all locks again after this and about a tenth of a second.
	keepEvery = time.Second
	// probeLimit is how long a volume may take to answer while it is looked at.
	probeLimit = 2 * time.Second
	// collideLimit is how long the holder tries to lock its files on a brick that is back,
	// where another node may have tried its luck at the same moment. It is well below
	// takeoverGrace.
	collideLimit = time.Second
)

// Keep looks after the volumes that are held until the context ends.
func (h *Manager) Keep(ctx context.Context) error {
	return h.eachPool(ctx, keepEvery, func(pool string, volumes []*attachment) {
		if err := h.keep(ctx, pool, volumes); err != nil {
			h.Log.Info("cannot look after the volumes of a pool", "pool", pool, "error", err.Error())
		}
	})
}

// eachPool does work with the volumes of each pool again and again until the context ends. One
// that takes long keeps others waiting no longer, and is not done twice at once.
func (h *Manager) eachPool(ctx context.Context, every time.Duration, work func(pool string, volumes []*attachment)) error {
	var busy sync.Map // by pool
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for pool, volumes := range h.byPool() {
			if _, is := busy.LoadOrStore(pool, true); is {
				continue
			}
			go func() {
				defer busy.Delete(pool)
				work(pool, volumes)
			}()
		}
	}
}

// byPool lists what is held.
func (h *Manager) byPool() map[string][]*attachment {
	h.mu.Lock()
	all := maps.Clone(h.held)
	h.mu.Unlock()
	pools := map[string][]*attachment{}
	for _, one := range all {
		pools[one.pool] = append(pools[one.pool], one)
	}
	return pools
}

// keep looks after the volumes of one pool.
func (h *Manager) keep(ctx context.Context, pool string, volumes []*attachment) error {
	mine := h.lockAll(volumes)
	defer unlockAll(mine)
	if len(mine) == 0 {
		return nil
	}
	p, err := h.Catalog.Pool(pool)
	if err != nil {
		return err
	}
	graph, connections, err := h.Pools.Connections(p, schema.Block)
	if err != nil {
		for _, one := range mine {
			h.markLost(one, err) // its client has gone
		}
		return nil
	}
	back, changed := h.connectionChanges(pool, graph, connections)
	if !back && !changed {
		return nil
	}
	if p.Type == schema.Disperse {
		h.keepDispersed(mine, changed)
		if h.others(pool, mine) == 0 {
			h.noteGraph(pool, graph)
		}
		return nil
	}
	asked := time.Now()
	alive := h.answering(mine)
	if len(alive) == 0 {
		return nil
	}
	begin := time.Now()
	if back {
		if err := h.Pools.Renew(ctx, p, schema.Block); err != nil {
			return err
		}
	}
	h.relockAll(alive, asked)
	graph, now, err := h.Pools.Connections(p, schema.Block)
	if err != nil {
		return err
	}
	// A brick on which the client opens a file late, because it is asked for the lock there, has
	// no lock then, and the others' answer is yes. So they are locked once more on what was
	// looked at: where the file was open at that time, the lock is.
	h.relockAll(alive, asked)
	connections = both(connections, now)
	left := h.others(pool, mine)
	if left > 0 {
		graph = "" // as if it had changed: those are locked at the next look
	}
	h.note(p, graph, connections)
	h.measures().relocked.WithLabelValues(pool).Inc()
	h.Log.Info("locked the volumes of a pool on all bricks again", "pool", pool, "volumes", len(alive), "left", left, "took", time.Since(begin).String())
	return nil
}

// errMoved is why a volume is given up when the client of a Disperse pool has another graph.
var errMoved = errors.New("the graph of its pool has changed, and a Disperse pool does not take locks along")

// keepDispersed looks after volumes of a Disperse pool. Their client must not begin anew:
// cluster/disperse takes the lock of one brick along, and says that it has locked the file again
// where it has not (GlusterFS 10.3). So a brick that is back stays without them, until they are
// attached anew, and those are given up whose client has another graph for whatever reason. A
// node that takes one over then leaves this one takeoverGrace to find out.
func (h *Manager) keepDispersed(volumes []*attachment, changed bool) {
	if !changed {
		h.answering(volumes) // on too few bricks, they are lost
		return
	}
	for _, one := range volumes {
		h.markLost(one, errMoved)
	}
}

// noteGraph remembers which graph the volumes of a pool were taken by.
func (h *Manager) noteGraph(pool, graph string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen[pool]
	seen.graph = graph
	h.seen[pool] = seen
}

// others counts the volumes of a pool, beside these, that are held or may be: somebody works on
// them.
func (h *Manager) others(pool string, these []*attachment) int {
	n := 0
	for _, one := range h.byPool()[pool] {
		if slices.Contains(these, one) {
			continue
		}
		if !one.mu.TryLock() {
			n++
			continue
		}
		if one.taken != nil && one.lost == nil {
			n++
		}
		one.mu.Unlock()
	}
	return n
}

// lockAll gives those that are attached and that nobody works on, locked. The devices of
// those that are lost are closed if they were not.
func (h *Manager) lockAll(volumes []*attachment) []*attachment {
	var mine []*attachment
	for _, one := range volumes {
		if !one.mu.TryLock() {
			continue
		}
		if one.lost != nil && !one.fenced {
			h.fence(one)
		}
		if one.taken == nil || one.lost != nil {
			one.mu.Unlock()
			continue
		}
		mine = append(mine, one)
	}
	return mine
}

func unlockAll(volumes []*attachment) {
	for _, one := range volumes {
		one.mu.Unlock()
	}
}

// locked is where the locks of a pool's volumes are.
type locked struct {
	graph  string       // of the mount
	bricks map[int]bool // by index: all are there
}

// begin notes how a pool is connected before a volume is taken when it has no others.
func (h *Manager) begin(p catalog.Pool, one *attachment) error {
	h.mu.Lock()
	_, known := h.seen[p.Pool]
	h.mu.Unlock()
	if known && h.others(p.Pool, []*attachment{one}) > 0 {
		return nil
	}
	graph, connections, err := h.Pools.Connections(p, schema.Block)
	if err != nil {
		return err
	}
	h.note(p, graph, connections)
	return nil
}

// connectionChanges tells whether a brick is back that does not have all locks, and whether the mount has
// another graph: a brick may have been away while that was changed.
func (h *Manager) connectionChanges(pool, graph string, connections []gluster.Connection) (back, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := h.seen[pool]
	if seen.bricks == nil {
		return true, true
	}
	for _, c := range connections {
		if !c.Connected {
			seen.bricks[c.Brick] = false // it is news when it is back
		} else if c.Lost > 0 || !seen.bricks[c.Brick] {
			back = true
		}
	}
	return back, graph != seen.graph
}

// both are connections of now, to the bricks that were connected before as well.
func both(before, now []gluster.Connection) []gluster.Connection {
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

// note remembers which bricks have all locks: those on which as many files are open as on
// others of their set. A client that begins anew may take its files along before it is
// connected to all bricks, and then opens them on no other.
func (h *Manager) note(p catalog.Pool, graph string, connections []gluster.Connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = map[string]locked{}
	}
	set := func(c gluster.Connection) int { return c.Brick / max(1, p.SetSize) }
	most := map[int]int{}
	for _, c := range connections {
		most[set(c)] = max(most[set(c)], c.Open)
	}
	bricks := map[int]bool{}
	for _, c := range connections {
		bricks[c.Brick] = c.Connected && c.Open == most[set(c)]
	}
	h.seen[p.Pool] = locked{graph, bricks}
}

// answering asks volumes whether enough bricks still know them, and gives up those that are
// lost. One that is slow is left as it is, and keeps the others waiting: a client must not
// begin anew under it.
func (h *Manager) answering(volumes []*attachment) []*attachment {
	answers := make(map[*attachment]chan error, len(volumes))
	for _, one := range volumes {
		answer := make(chan error, 1)
		answers[one] = answer
		file := one.taken.File
		go func() { answer <- file.Sync() }()
	}
	limit := time.After(probeLimit)
	var alive []*attachment
	for _, one := range volumes {
		select {
		case err := <-answers[one]:
			if err != nil {
				h.markLost(one, err)
				continue
			}
			alive = append(alive, one)
		case <-limit:
			h.Log.Info("a volume does not answer", "pool", one.pool, "volume", one.name)
			return nil
		}
	}
	return alive
}

// relockAll takes the locks of volumes again, and gives up those that cannot be had.
func (h *Manager) relockAll(volumes []*attachment, asked time.Time) {
	for _, one := range volumes {
		if one.lost != nil {
			continue
		}
		if err := errors.Join(relock(one), one.known(asked)); err != nil {
			h.markLost(one, err)
		}
	}
}

// relock takes the lock again, on all bricks where the file is open now.
func relock(one *attachment) error {
	end := time.Now().Add(collideLimit)
	for {
		err := one.taken.Lock()
		if err == nil || !errors.Is(err, ofd.ErrHeld) || time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// markLost gives up a volume: its device lets nothing through any more, whatever becomes of the
// file. Who has it mounted sees I/O errors.
func (h *Manager) markLost(one *attachment, why error) {
	one.lost = fmt.Errorf("%w: %s in pool %s: %w", ErrLost, one.name, one.pool, why)
	h.measures().lost.WithLabelValues(one.pool).Inc()
	h.Log.Info("a volume is lost", "pool", one.pool, "volume", one.name, "device", one.device.Name(), "reason", why.Error())
	h.fence(one)
	if one.stopped != nil {
		one.stopped.end() // who waits for it gets an error
	}
}

// fence closes the device of a lost volume, if that was not done.
func (h *Manager) fence(one *attachment) {
	err := loop.Fence(one.device, one.label, deviceFlags)
	if one.fenced = err == nil; !one.fenced {
		h.Log.Error(err, "a lost volume's device stays open", "volume", one.name, "device", one.device.Name())
	}
}

// Lost is a volume that this node has lost and that is still in use here.
type Lost struct {
	Pool   string `json:"pool"`
	Name   string `json:"name"`
	Device string `json:"device"`
	Why    string `json:"why"`
}

// Lost lists them.
func (h *Manager) Lost(context.Context) ([]Lost, error) {
	var all []Lost
	for _, volumes := range h.byPool() {
		for _, one := range volumes {
			if !one.mu.TryLock() {
				continue
			}
			if one.lost != nil {
				all = append(all, Lost{one.pool, one.name, one.device.Name(), one.lost.Error()})
			}
			one.mu.Unlock()
		}
	}
	return all, nil
}
