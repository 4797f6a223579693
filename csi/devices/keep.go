package devices

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
func (h *Holder) Keep(ctx context.Context) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for pool, volumes := range h.byPool() {
			if _, busy := h.kept.LoadOrStore(pool, true); busy {
				continue
			}
			go func() {
				defer h.kept.Delete(pool)
				if err := h.keep(ctx, pool, volumes); err != nil {
					h.Log.Info("cannot look after the volumes of a pool", "pool", pool, "error", err.Error())
				}
			}()
		}
	}
}

// byPool lists what is held.
func (h *Holder) byPool() map[string][]*held {
	h.mu.Lock()
	all := maps.Clone(h.held)
	h.mu.Unlock()
	pools := map[string][]*held{}
	for _, one := range all {
		pools[one.pool] = append(pools[one.pool], one)
	}
	return pools
}

// keep looks after the volumes of one pool.
func (h *Holder) keep(ctx context.Context, pool string, volumes []*held) error {
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
			h.lose(one, err) // its client has gone
		}
		return nil
	}
	back, changed := h.news(pool, graph, connections)
	if !back && !changed {
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
	for _, one := range alive {
		if err := errors.Join(relock(one), one.known(asked)); err != nil {
			h.lose(one, err)
		}
	}
	if graph, _, err = h.Pools.Connections(p, schema.Block); err != nil {
		return err
	}
	left := h.passedOver(pool, mine)
	if left > 0 {
		graph = "" // as if it had changed: those are locked at the next look
	}
	h.note(pool, graph, connections)
	h.measures().relocked.WithLabelValues(pool).Inc()
	h.Log.Info("locked the volumes of a pool on all bricks again", "pool", pool, "volumes", len(alive), "left", left, "took", time.Since(begin).String())
	return nil
}

// passedOver counts the volumes of a pool that may be held and were not looked at: somebody
// worked on them, or has taken them since.
func (h *Holder) passedOver(pool string, looked []*held) int {
	n := 0
	for _, one := range h.byPool()[pool] {
		if slices.Contains(looked, one) {
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
func (h *Holder) lockAll(volumes []*held) []*held {
	var mine []*held
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

func unlockAll(volumes []*held) {
	for _, one := range volumes {
		one.mu.Unlock()
	}
}

// locked is where the locks of a pool's volumes are.
type locked struct {
	graph  string       // of the mount
	bricks map[int]bool // by index: all are there
}

// begin notes how a pool is connected before its first volume is taken.
func (h *Holder) begin(p catalog.Pool) error {
	h.mu.Lock()
	_, known := h.seen[p.Pool]
	h.mu.Unlock()
	if known {
		return nil
	}
	graph, connections, err := h.Pools.Connections(p, schema.Block)
	if err != nil {
		return err
	}
	h.note(p.Pool, graph, connections)
	return nil
}

// news tells whether a brick is back that does not have all locks, and whether the mount has
// another graph: a brick may have been away while that was changed.
func (h *Holder) news(pool, graph string, connections []gluster.Connection) (back, changed bool) {
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

// note remembers which bricks have all locks.
func (h *Holder) note(pool, graph string, connections []gluster.Connection) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = map[string]locked{}
	}
	bricks := map[int]bool{}
	for _, c := range connections {
		bricks[c.Brick] = c.Connected
	}
	h.seen[pool] = locked{graph, bricks}
}

// answering asks volumes whether enough bricks still know them, and gives up those that are
// lost. One that is slow is left as it is, and keeps the others waiting: a client must not
// begin anew under it.
func (h *Holder) answering(volumes []*held) []*held {
	answers := make(map[*held]chan error, len(volumes))
	for _, one := range volumes {
		answer := make(chan error, 1)
		answers[one] = answer
		file := one.taken.File
		go func() { answer <- file.Sync() }()
	}
	limit := time.After(probeLimit)
	var alive []*held
	for _, one := range volumes {
		select {
		case err := <-answers[one]:
			if err != nil {
				h.lose(one, err)
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

// relock takes the lock again, on all bricks where the file is open now.
func relock(one *held) error {
	end := time.Now().Add(collideLimit)
	for {
		err := one.taken.Lock()
		if err == nil || !errors.Is(err, ofd.ErrHeld) || time.Now().After(end) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// lose gives up a volume: its device lets nothing through any more, whatever becomes of the
// file. Who has it mounted sees I/O errors.
func (h *Holder) lose(one *held, why error) {
	one.lost = fmt.Errorf("%w: %s in pool %s: %w", ErrLost, one.name, one.pool, why)
	h.measures().lost.WithLabelValues(one.pool).Inc()
	h.Log.Info("a volume is lost", "pool", one.pool, "volume", one.name, "device", one.device.Name(), "reason", why.Error())
	h.fence(one)
	if one.stopped != nil {
		one.stopped.end() // who waits for it gets an error
	}
}

// fence closes the device of a lost volume, if that was not done.
func (h *Holder) fence(one *held) {
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
func (h *Holder) Lost(context.Context) ([]Lost, error) {
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
