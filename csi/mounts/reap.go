package mounts

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/schema"
)

// clientFiles are what a client has in its directory.
var clientFiles = []string{"root", "root.hosts"}

// reapEvery is how often clients are checked for whether they are still needed, and how long
// a client must be unused before it is ended.
const reapEvery = time.Minute

// Reap ends clients of pools that are no longer in the catalog, once nothing is mounted from
// them, no block volume needs them, and Root was not called for them for idle. A pool that cannot be read keeps its
// clients.
func (c *Clients) Reap(pools catalog.Folder, idle time.Duration) {
	wanted, unreadable, err := wantedKeys(pools)
	if err != nil {
		return // every request reports it
	}
	c.mu.Lock()
	all := maps.Clone(c.clients)
	c.mu.Unlock()
	for key, cl := range all {
		if wanted[key] || unreadable[cl.pool] || !cl.mu.TryLock() {
			continue
		}
		if time.Since(cl.used) >= idle && !cl.inUse() && !c.holdsVolumes(cl) {
			c.end(key, cl)
		}
		cl.mu.Unlock()
	}
}

// wantedKeys returns the keys of the catalog's pools, and the pools that cannot be read.
func wantedKeys(pools catalog.Folder) (wanted, unreadable map[string]bool, err error) {
	names, err := pools.Names()
	if err != nil {
		return nil, nil, err
	}
	wanted, unreadable = map[string]bool{}, map[string]bool{}
	for _, name := range names {
		p, err := pools.Pool(name)
		if err != nil && !errors.Is(err, catalog.ErrNoPool) {
			unreadable[name] = true
		}
		for _, layout := range p.Layouts {
			wanted[keyOf(p, layout)] = true
		}
	}
	return wanted, unreadable, nil
}

// inUse reports whether anything besides the client's root is mounted from it. If the mounts
// cannot be read, the client counts as used.
func (cl *client) inUse() bool {
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return true
	}
	var root *mountinfo.Info
	for _, m := range all {
		if m.Mountpoint == cl.target {
			root = m
		}
	}
	for _, m := range all {
		if root != nil && m.Major == root.Major && m.Minor == root.Minor && m.Mountpoint != cl.target {
			return true
		}
	}
	return false
}

// holdsVolumes reports whether block volumes are attached through the client: their devices are
// not mounts of it.
func (c *Clients) holdsVolumes(cl *client) bool {
	return cl.layout == schema.Block && c.HoldsVolumes != nil && c.HoldsVolumes(cl.pool)
}

// end stops a client and removes its files except for the log.
func (c *Clients) end(key string, cl *client) {
	cl.stop()
	cl.reaped = true
	c.mu.Lock()
	delete(c.clients, key)
	c.mu.Unlock()
	c.volfiles.Remove(key)
	c.metrics.away.DeleteLabelValues(cl.pool, string(cl.layout))
	for _, name := range clientFiles {
		_ = os.Remove(filepath.Join(c.dir, key, name)) // leftovers are overwritten or empty
	}
	_ = os.Remove(filepath.Join(c.dir, key))
	c.log.Info("ended the client of a removed pool", "pool", cl.pool, "key", key)
}
