package mounts

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/atoll-storage/atoll/csi/catalog"
	"github.com/atoll-storage/atoll/internal/linux/mountinfo"
)

// reapEvery is how often clients are looked at that nobody may need, and how long
// nobody must have asked for one.
const reapEvery = time.Minute

// Reap ends the clients of pools that the catalog no longer has, when nothing else
// is mounted from them and nobody has asked for them for a while. A pool that cannot
// be read keeps its clients.
func (c *Clients) Reap(pools catalog.Folder, idle time.Duration) {
	wanted, unknown, err := wantedKeys(pools)
	if err != nil {
		return // every request says so
	}
	c.mu.Lock()
	all := maps.Clone(c.clients)
	c.mu.Unlock()
	for key, one := range all {
		if wanted[key] || unknown[one.pool] || !one.mu.TryLock() {
			continue
		}
		if time.Since(one.used) >= idle && !one.inUse() {
			c.end(key, one)
		}
		one.mu.Unlock()
	}
}

// wantedKeys are those of the catalog's pools; unknown are the pools that cannot be read.
func wantedKeys(pools catalog.Folder) (wanted, unknown map[string]bool, err error) {
	names, err := pools.Names()
	if err != nil {
		return nil, nil, err
	}
	wanted, unknown = map[string]bool{}, map[string]bool{}
	for _, name := range names {
		p, err := pools.Pool(name)
		if err != nil && !errors.Is(err, catalog.ErrNoPool) {
			unknown[name] = true
		}
		for _, layout := range p.Layouts {
			wanted[keyOf(p, layout)] = true
		}
	}
	return wanted, unknown, nil
}

// inUse tells whether anything is mounted from the client but its own root. What
// cannot be told is in use.
func (o *client) inUse() bool {
	all, err := mountinfo.All()
	if err != nil {
		return true
	}
	device := ""
	for _, m := range all {
		if m.Target == o.target {
			device = m.Device
		}
	}
	for _, m := range all {
		if device != "" && m.Device == device && m.Target != o.target {
			return true
		}
	}
	return false
}

// end stops a client and removes its files, but for the log.
func (c *Clients) end(key string, one *client) {
	one.stop()
	one.gone = true
	c.mu.Lock()
	delete(c.clients, key)
	c.mu.Unlock()
	c.specs.Remove(key)
	for _, name := range []string{filepath.Join(key, "root"), filepath.Join(key, "root.hosts"), key} {
		_ = os.Remove(filepath.Join(c.dir, name)) // what is left is overwritten or empty
	}
	c.log.Info("ended the client of a pool that has gone", "pool", one.pool, "key", key)
}
