package blockdev

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/atoll-storage/atoll/csi/backend"
	"github.com/atoll-storage/atoll/internal/linux/safepath"
	"github.com/atoll-storage/atoll/internal/ondisk"
	"github.com/atoll-storage/atoll/schema"
)

// To copy an attached volume, the controller asks its node, through the pool, to pause writes
// (package ondisk). The node pauses them once it has seen that the controller is waiting, and
// reports that. At the end it reports whether the volume was unchanged all the time: only then
// is the copy good. The node resumes writes by itself when the controller stops waiting.

const (
	// pollEvery is how often pools are polled for freeze requests.
	pollEvery = time.Second
	// readEvery is how often a request that is being served is read again.
	readEvery = 50 * time.Millisecond
	// HeartbeatLimit is how long a node waits for the controller's next heartbeat before it
	// resumes writes.
	HeartbeatLimit = 5 * time.Second
)

// ServeFreezes serves freeze requests until the context ends.
func (m *Manager) ServeFreezes(ctx context.Context) error {
	return m.eachPool(ctx, pollEvery, func(pool string, volumes []*attachment) {
		attached := attachedByName(volumes)
		if len(attached) == 0 {
			return
		}
		if err := m.checkRequests(ctx, pool, attached); err != nil {
			m.Log.V(1).Info("could not read freeze requests", "pool", pool, "error", err.Error())
		}
	})
}

// attachedByName returns the attached volumes by name.
func attachedByName(volumes []*attachment) map[string]*attachment {
	attached := map[string]*attachment{}
	for _, a := range volumes {
		if a.attached.Load() {
			attached[a.name] = a
		}
	}
	return attached
}

// checkRequests starts serving the new requests of a pool.
func (m *Manager) checkRequests(ctx context.Context, pool string, attached map[string]*attachment) error {
	p, err := m.Catalog.Pool(pool)
	if err != nil {
		return err
	}
	path, err := m.Pools.Running(p, schema.Block)
	if err != nil {
		return err
	}
	root, err := safepath.Open(path)
	if err != nil {
		return err
	}
	defer root.Close()
	b := backend.Block{Root: root}
	requests, err := b.FreezeRequests()
	if err != nil {
		return err
	}
	m.forgetRequests(pool, requests)
	for id, name := range requests {
		a := attached[name]
		if a == nil {
			continue
		}
		if _, known := m.requests.LoadOrStore(requestKey{pool, id}, true); known {
			continue
		}
		request, err := b.OpenFreezeRequest(id)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		go func() {
			if err := m.serveRequest(ctx, a, request); err != nil {
				m.Log.Info("could not pause a volume for a copy", "pool", pool, "volume", name, "error", err.Error())
			}
		}()
	}
	return nil
}

// requestKey identifies a freeze request.
type requestKey struct{ pool, id string }

// forgetRequests drops the requests of a pool that were withdrawn.
func (m *Manager) forgetRequests(pool string, requests map[string]string) {
	m.requests.Range(func(k, _ any) bool {
		key := k.(requestKey)
		if _, exists := requests[key.id]; key.pool == pool && !exists {
			m.requests.Delete(key)
		}
		return true
	})
}

// serveRequest serves one request to its end.
func (m *Manager) serveRequest(ctx context.Context, a *attachment, request *backend.ReceivedFreeze) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	beats := heartbeats(ctx, request)
	for range 2 { // an abandoned request has no second heartbeat
		if _, waits := nextHeartbeat(ctx, beats); !waits {
			return nil
		}
	}
	m.reply(request, ondisk.Stopping, nil)
	p, err := m.pause(ctx, a)
	if err != nil {
		m.reply(request, ondisk.Refused, err)
		return err
	}
	defer p.resume()
	begin := time.Now()
	log := m.Log.WithValues("pool", a.pool, "volume", a.name)
	log.Info("paused a volume for a copy")
	m.reply(request, ondisk.Stopped, nil)
	for {
		beat, waits := nextHeartbeat(ctx, beats)
		if !waits {
			log.Info("resumed a volume: the controller no longer waits", "paused", time.Since(begin).String())
			return nil
		}
		state, err := p.outcome()
		if !beat.Copied && state == ondisk.Kept {
			continue
		}
		p.resume()
		m.reply(request, state, err)
		log.Info("resumed a volume", "paused", time.Since(begin).String(), "state", state)
		return nil
	}
}

// heartbeats polls a request, and sends its latest state whenever the heartbeat has changed. It
// closes the channel and the request when the request was withdrawn.
func heartbeats(ctx context.Context, request *backend.ReceivedFreeze) <-chan ondisk.FreezeRequest {
	beats := make(chan ondisk.FreezeRequest, 1)
	go func() {
		defer close(beats)
		defer request.Close()
		for last := int64(-1); ; {
			r, err := request.Read()
			if err != nil {
				return
			}
			if r.Heartbeat != last {
				last = r.Heartbeat
				select {
				case <-beats: // replace one that was not received
				default:
				}
				beats <- r
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(readEvery):
			}
		}
	}()
	return beats
}

// nextHeartbeat waits for the next heartbeat; false when there is none within HeartbeatLimit.
func nextHeartbeat(ctx context.Context, beats <-chan ondisk.FreezeRequest) (r ondisk.FreezeRequest, waits bool) {
	select {
	case r, waits = <-beats:
	case <-ctx.Done():
	case <-time.After(HeartbeatLimit):
	}
	return r, waits
}

// reply writes a status. A pool that is too slow to store it does not delay the node: the
// controller then finds no status.
func (m *Manager) reply(request *backend.ReceivedFreeze, state ondisk.State, reason error) {
	status := ondisk.FreezeStatus{Node: m.Node, State: state}
	if reason != nil {
		status.Why = reason.Error()
	}
	done := make(chan error, 1)
	go func() { done <- request.Reply(status) }()
	select {
	case err := <-done:
		if err != nil {
			m.Log.V(1).Info("could not write the status of a freeze request", "state", state, "error", err.Error())
		}
	case <-time.After(HeartbeatLimit):
	}
}
