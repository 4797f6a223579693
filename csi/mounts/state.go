package mounts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-storage/atoll/internal/gluster"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
)

// state is what is known of a client's mount.
type state struct {
	probe chan error // the answer of a request to the root that has not ended; of responds alone

	mu      sync.Mutex
	device  string            // of the mount, such as "0:45"
	meta    *safepath.Dir     // gluster.MetaDir of the mount; nil if it could not be opened
	looking bool              // a look at its connections has not ended
	since   time.Time         // of that look
	hung    bool              // that look has taken too long
	away    map[int]time.Time // bricks that the client is not connected to, and since when
}

var errEnded = errors.New("its client ended")

// responds waits until the root of the mount responds. One request runs at a time: one that hangs
// stays until the client answers or ends, and is waited for by the next call. Calls must not
// overlap.
func (cl *client) responds(limit time.Duration) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	last := errors.New("its mount does not answer")
	for {
		if cl.state.probe == nil {
			answer := make(chan error, 1)
			cl.state.probe = answer
			go func() { answer <- gluster.CheckMounted(cl.target) }()
		}
		select {
		case err := <-cl.state.probe:
			cl.state.probe = nil
			if err == nil {
				return nil
			}
			last = err
		case <-cl.done:
			return errEnded
		case <-end.C:
			return last
		}
		select {
		case <-cl.done:
			return errEnded
		case <-end.C:
			return last
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// mounted notes that the client is mounted.
func (s *state) mounted(target string) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, target, unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return fmt.Errorf("find the device of the mount at %s: %w", target, err)
	}
	s.mu.Lock()
	s.device, s.away = fmt.Sprintf("%d:%d", st.Dev_major, st.Dev_minor), nil
	s.mu.Unlock()
	opened := make(chan bool, 1)
	go func() { opened <- s.openMeta(target) != nil }()
	select {
	case <-opened:
	case <-time.After(aliveLimit): // the next look tries again
	}
	return nil
}

// openMeta opens the directory in which the client tells its connections. It stays open: while no
// brick is connected, it cannot be opened. Opening may hang.
func (s *state) openMeta(target string) *safepath.Dir {
	d, err := safepath.Open(filepath.Join(target, gluster.MetaDir))
	if err != nil {
		return nil // the next look tries again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.device == "" {
		d.Close() // unmounted meanwhile
		return nil
	}
	if s.meta != nil {
		s.meta.Close()
	}
	s.meta = d
	return d
}

// unmounted notes that the client has no mount any more.
func (s *state) unmounted() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meta != nil {
		s.meta.Close()
	}
	s.meta, s.device, s.away = nil, "", nil
}

// connections asks the client for its connections. Calls must not overlap.
func (s *state) connections(target string) ([]gluster.Connection, error) {
	s.mu.Lock()
	meta := s.meta
	s.mu.Unlock()
	if meta == nil {
		meta = s.openMeta(target)
	}
	if meta == nil {
		return nil, fmt.Errorf("open %s of the mount at %s: it does not answer", gluster.MetaDir, target)
	}
	_, all, err := gluster.ConnectionsIn(meta.Path())
	if errors.Is(err, gluster.ErrGraphChanging) {
		s.openMeta(target) // of the new graph
	}
	return all, err
}

// Devices returns the devices of all clients whose process runs, as mountinfo names them, and whether
// they answer: false for those that hang. A mount with another device has no client any more.
func (c *Clients) Devices(context.Context) (map[string]bool, error) {
	c.mu.Lock()
	all := slices.Collect(maps.Values(c.clients))
	c.mu.Unlock()
	devices := map[string]bool{}
	for _, cl := range all {
		cl.state.mu.Lock()
		if cl.running.Load() && cl.state.device != "" {
			devices[cl.state.device] = !cl.state.hung
		}
		cl.state.mu.Unlock()
	}
	return devices, nil
}

// HasOlder reports that all clients are of this process.
func (c *Clients) HasOlder(context.Context) bool { return false }

// hungAfter is how long a client may take to tell its connections, for which it asks no brick,
// before it counts as hung.
const hungAfter = 10 * time.Second

// look notes which bricks the running clients are not connected to, and which clients hang. It
// waits for no client.
func (c *Clients) look() {
	c.mu.Lock()
	all := slices.Collect(maps.Values(c.clients))
	c.mu.Unlock()
	for _, cl := range all {
		if !cl.running.Load() || !cl.state.beginLook(func() { c.noteHung(cl.pool, true) }) {
			continue
		}
		go func() {
			connections, err := cl.state.connections(cl.target)
			if cl.state.endLook() {
				c.noteHung(cl.pool, false)
			}
			if err == nil {
				c.noteAway(cl, connections)
			}
		}()
	}
}

// beginLook reports whether no look is running, and the client is mounted. It calls hangs once for
// a look that does not end.
func (s *state) beginLook(hangs func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looking && !s.hung && time.Since(s.since) > hungAfter {
		s.hung = true
		hangs()
	}
	if s.looking || s.device == "" {
		return false
	}
	s.looking, s.since = true, time.Now()
	return true
}

// endLook reports whether the client had counted as hung.
func (s *state) endLook() (hung bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hung, s.looking, s.hung = s.hung, false, false
	return hung
}

func (c *Clients) noteHung(pool string, hung bool) {
	if hung {
		c.metrics.hung.WithLabelValues(pool).Set(1)
		c.log.Info("the client of a pool hangs; volumes that are mounted from it do not answer", "pool", pool)
		return
	}
	c.metrics.hung.WithLabelValues(pool).Set(0)
	c.log.Info("the client of a pool answers again", "pool", pool)
}

// noteAway notes which bricks a client is not connected to, and logs changes.
func (c *Clients) noteAway(cl *client, connections []gluster.Connection) {
	s := &cl.state
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.away
	s.away = map[int]time.Time{}
	for _, connection := range connections {
		since, was := before[connection.Brick]
		switch {
		case !connection.Connected && !was:
			s.away[connection.Brick] = time.Now()
			c.log.Info("a client has lost its connection to a brick", "pool", cl.pool, "layout", cl.layout, "brick",
				connection.Brick)
		case !connection.Connected:
			s.away[connection.Brick] = since
		case was:
			c.log.Info("a client is connected to a brick again", "pool", cl.pool, "layout", cl.layout, "brick",
				connection.Brick, "after", time.Since(since).Round(time.Second).String())
		}
	}
	c.metrics.away.WithLabelValues(cl.pool, string(cl.layout)).Set(float64(len(s.away)))
}

// awayText says which bricks a client is not connected to, and for how long, to end an error with.
func (c *Clients) awayText(key string) string {
	c.mu.Lock()
	cl := c.clients[key]
	c.mu.Unlock()
	if cl == nil {
		return ""
	}
	cl.state.mu.Lock()
	defer cl.state.mu.Unlock()
	var texts []string
	for _, brick := range slices.Sorted(maps.Keys(cl.state.away)) {
		since := time.Since(cl.state.away[brick]).Round(time.Second)
		texts = append(texts, fmt.Sprintf("brick %d for %s", brick, since))
	}
	if len(texts) == 0 {
		return ""
	}
	return "; it is not connected to " + strings.Join(texts, ", ") + "; it connects again by itself"
}
